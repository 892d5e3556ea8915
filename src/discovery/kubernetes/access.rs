//! Who is asked in a cluster, and as whom: as a pod has it from its cluster, or by a kubeconfig. Read anew for each question: tokens
//! of pods last an hour.

use crate::config::settings::{HttpAt, HttpServer, KubernetesSource, TlsTerms, Verify};
use crate::config::{Kubeconfig, read_kubeconfig};
use crate::discovery::ask::{AskError, Readers, Token, read_text, read_token};
use std::sync::Arc;

/// Where the API is, and how one gets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) server: HttpServer,
    pub(super) namespace: Option<String>,
    pub(super) token: Option<Token>,
}

impl Access {
    /// As the source says it now.
    pub(super) async fn of(source: &KubernetesSource) -> Result<Self, AskError> {
        match &source.kubeconfig {
            Some(path) => Self::of_kubeconfig(path).await,
            None => Self::of_pod(|name| std::env::var(name).ok(), POD_FOLDER).await,
        }
    }

    async fn of_pod(variable: impl Fn(&str) -> Option<String>, folder: &str) -> Result<Self, AskError> {
        let (host, port) = (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT"));
        let port = port.and_then(|port| port.parse().ok());
        let (Some(host), Some(port)) = (host.filter(|host| !host.is_empty()), port) else {
            return Err(AskError::Token(
                "this is no pod of a cluster (KUBERNETES_SERVICE_HOST is not set); say `kubeconfig`"
                    .to_owned(),
            ));
        };
        let at = match host.parse() {
            Ok(ip) => HttpAt::Ip(ip, port),
            Err(_) => HttpAt::Name(host.clone(), port),
        };
        let name = matches!(at, HttpAt::Name(..)).then(|| host.into());
        let ca = Some(format!("{folder}/ca.crt").into_boxed_str().into());
        let tls = Some(Arc::new(TlsTerms { verify: Verify::Full, ca, name, own: None }));
        let token = read_token(&format!("{folder}/token"), Readers::Anybody).await?;
        let namespace =
            read_text(&format!("{folder}/namespace"), "the namespace of the pod", Readers::Anybody).await;
        let namespace = namespace.ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        Ok(Self { server: HttpServer { at, tls }, namespace, token: Some(token) })
    }

    async fn of_kubeconfig(path: &str) -> Result<Self, AskError> {
        let text = read_text(path, "kubeconfig", Readers::Few).await?;
        let read = read_kubeconfig(path, text.as_bytes())
            .map_err(|mistakes| AskError::Token(mistakes.in_a_line()))?;
        let Kubeconfig { server, namespace, token, token_file } = read;
        let token = match (&token_file, token.is_none()) {
            (Some(path), _) => Some(read_token(path, Readers::Few).await?),
            (None, false) => Some(Token::new(&String::from_utf8_lossy(token.expose()))),
            (None, true) => None,
        };
        Ok(Self { server, namespace, token })
    }
}

const POD_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pod_asks_as_its_cluster_says() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let place = folder.path().display().to_string();
        let of = |host: &'static str| {
            let variable = move |name: &str| {
                let value = if name.ends_with("HOST") { host } else { "443" };
                Some(value.to_owned())
            };
            Access::of_pod(variable, &place)
        };
        assert!(of("10.96.0.1").await.unwrap_err().to_string().contains("/token"), "there is no token yet");
        put("token", "s3cr3t");
        put("namespace", "db\n");
        let access = of("10.96.0.1").await.unwrap();
        assert_eq!(access.server.at, HttpAt::Ip("10.96.0.1".parse().unwrap(), 443));
        assert_eq!(access.namespace.as_deref(), Some("db"));
        assert_eq!(access.token.as_ref().map(Token::expose), Some("s3cr3t"));
        assert!(!format!("{access:?}").contains("s3cr3t"));
        let named = of("kubernetes.default.svc").await.unwrap();
        assert_eq!(named.server.tls.unwrap().name.as_deref(), Some("kubernetes.default.svc"));
        put("token", "another");
        assert_eq!(of("10.96.0.1").await.unwrap().token.as_ref().map(Token::expose), Some("another"));
        let nowhere = Access::of_pod(|_| None, &place).await.unwrap_err().to_string();
        assert!(nowhere.contains("say `kubeconfig`"), "{nowhere}");
    }
}
