//! Kubeconfig: who is asked in a cluster of Kubernetes, and as whom, as `kubectl` has it in a file.
//!
//! Pure. Must stay true: any bytes are answered in bounded time and memory, and what would start a program is refused.

use std::path::Path;

use super::check::{named, parse_url};
use super::document::{self, Node, Value};
use super::mistake::{Mistakes, Place, Report, quoted};
use super::settings::{HttpServer, Pem, Secret, SecretSource, TlsTerms, Verify};
use super::text;
use crate::base64;

/// What the context in use of a kubeconfig says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// The API.
    pub server: HttpServer,
    /// Where one is, if nothing else is said.
    pub namespace: Option<String>,
    /// The token, if it stands there.
    pub token: Secret,
    /// Or where it stands.
    pub token_file: Option<String>,
}

/// Reads one. `file_name` is where it stands: paths in it begin there.
pub fn read_kubeconfig(file_name: &str, bytes: &[u8]) -> Result<Kubeconfig, Mistakes> {
    let mut report = Report::default();
    report.set_names(&[file_name]);
    // Whatever is told of it, its lines may hold secrets and are not shown.
    let Ok(text) = text::decode_up_to(bytes, BYTES_MAX, &mut report) else {
        return Err(report.into_mistakes(&[String::new()]));
    };
    let folder = Path::new(file_name).parent().unwrap_or(Path::new("/"));
    let read = document::parse(&text, 0, &mut report).and_then(|root| whole(&root, folder, &mut report));
    match read {
        Some(read) if report.is_empty() => Ok(read),
        _ => {
            if report.is_empty() {
                report.tell(Place::FILE, "it is no kubeconfig");
            }
            Err(report.into_mistakes(&[String::new()]))
        }
    }
}

fn whole(root: &Node, folder: &Path, report: &mut Report) -> Option<Kubeconfig> {
    let Some(current) = text_of(root, "current-context", report) else {
        report.tell(root.place, "it has no `current-context`, which says what of it counts");
        return None;
    };
    let context = chosen(root, ("contexts", "context"), current, report)?;
    let cluster = text_of(context, "cluster", report);
    let user = text_of(context, "user", report);
    let namespace = text_of(context, "namespace", report).map(str::to_owned);
    let cluster = chosen(root, ("clusters", "cluster"), cluster?, report)?;
    let nobody = Node { place: context.place, value: Value::Empty };
    let user = match user {
        Some(user) => chosen(root, ("users", "user"), user, report)?,
        None => &nobody,
    };
    for (node, key, why) in [
        (cluster, "proxy-url", "the API is asked directly, not by a proxy"),
        (user, "exec", "a program that gives out tokens is not started; use a token of a service account"),
        (user, "auth-provider", "plugins are not there; use a token of a service account"),
        (user, "username", "passwords went with Kubernetes 1.19; use a token of a service account"),
    ] {
        if let Some(found) = get(node, key) {
            report.tell(found.place, format!("`{key}`: {why}"));
        }
    }
    let server = text_of(cluster, "server", report);
    let Some(server) = server else {
        report.tell(cluster.place, "the cluster has no `server`");
        return None;
    };
    let url = match parse_url(server) {
        Ok(url) => url,
        Err(why) => {
            report.tell(get(cluster, "server").map_or(cluster.place, |node| node.place), why);
            return None;
        }
    };
    if url.path != "/" {
        let message = "`server` has a path, as behind Rancher; ask the API itself";
        report.tell(get(cluster, "server").map_or(cluster.place, |node| node.place), message);
    }
    let is_off = text_of(cluster, "insecure-skip-tls-verify", report) == Some("true");
    let ca = pem(cluster, "certificate-authority", folder, report);
    let certificate = pem(user, "client-certificate", folder, report);
    let key = pem(user, "client-key", folder, report);
    let terms = TlsTerms {
        verify: if is_off { Verify::Off } else { Verify::Full },
        ca: ca.filter(|_| !is_off),
        name: text_of(cluster, "tls-server-name", report).map(Into::into),
        own: certificate.zip(key),
    };
    let token = text_of(user, "token", report)
        .map_or_else(Secret::none, |token| Secret::new(SecretSource::Here, token.as_bytes()));
    let token_file = text_of(user, "tokenFile", report).map(|path| joined(folder, path));
    let tls = url.is_tls.then(|| named(terms, &url.at));
    Some(Kubeconfig { server: HttpServer { at: url.at, tls }, namespace, token, token_file })
}

/// The entry of this name in a list of `{ name, KIND }`.
fn chosen<'a>(
    root: &'a Node,
    (list, kind): (&str, &str),
    name: &str,
    report: &mut Report,
) -> Option<&'a Node> {
    let Some(Node { value: Value::List(items), .. }) = get(root, list) else {
        report.tell(root.place, format!("it has no list `{list}`"));
        return None;
    };
    let is_it = |item: &&Node| matches!(get(item, "name"), Some(Node { value: Value::Text(own), .. }) if **own == *name);
    let found = items.iter().find(is_it).and_then(|item| get(item, kind));
    if found.is_none() {
        report.tell(root.place, format!("`{list}` has no {}", quoted(name)));
    }
    found
}

fn get<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    let Value::Map(entries) = &node.value else { return None };
    let found = entries.iter().find(|entry| *entry.key == *key).map(|entry| &entry.value);
    found.filter(|node| !matches!(node.value, Value::Empty))
}

fn text_of<'a>(node: &'a Node, key: &str, report: &mut Report) -> Option<&'a str> {
    match get(node, key)? {
        Node { value: Value::Text(text), .. } if text.is_empty() => None,
        Node { value: Value::Text(text), .. } => Some(text),
        other => {
            report.tell(other.place, format!("`{key}` must be text"));
            None
        }
    }
}

/// What stands there as base64, or the file that is named.
fn pem(node: &Node, key: &str, folder: &Path, report: &mut Report) -> Option<Pem> {
    let data = format!("{key}-data");
    if let Some(text) = text_of(node, &data, report) {
        let Some(bytes) = base64::decode(text) else {
            report.tell(get(node, &data)?.place, format!("`{data}` is no base64"));
            return None;
        };
        return Some(Pem::Text(bytes.into()));
    }
    Some(Pem::File(joined(folder, text_of(node, key, report)?).into()))
}

fn joined(folder: &Path, path: &str) -> String {
    folder.join(path).to_string_lossy().into_owned()
}

/// Those of people with many clusters have 100 KiB.
const BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::super::settings::HttpAt;
    use super::*;

    fn config(cluster: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{{cluster}}}}}]\n\
             users: [{{name: other, user: {{}}}}, {{name: u, user: {{{user}}}}}]\n\
             contexts: [{{name: x, context: {{cluster: c, user: u, namespace: db}}}}]\ncurrent-context: x\n"
        )
    }

    fn read(cluster: &str, user: &str) -> Result<Kubeconfig, Mistakes> {
        read_kubeconfig("/etc/kube/config", config(cluster, user).as_bytes())
    }

    #[test]
    fn the_context_in_use_says_who_is_asked_and_as_whom() {
        let read = read(
            "server: 'https://10.2.0.1:6443', certificate-authority: ca.crt",
            "token: s3cr3t, client-certificate-data: Q0VSVA==, client-key: /k.pem",
        )
        .unwrap();
        assert_eq!(read.server.at, HttpAt::Ip("10.2.0.1".parse().unwrap(), 6_443));
        let tls = read.server.tls.as_ref().unwrap();
        assert_eq!(
            (tls.verify, tls.ca.as_ref()),
            (Verify::Full, Some(&Pem::File("/etc/kube/ca.crt".into())))
        );
        assert_eq!(tls.own, Some((Pem::Text((*b"CERT").into()), Pem::File("/k.pem".into()))));
        assert_eq!((read.namespace.as_deref(), read.token.expose()), (Some("db"), &b"s3cr3t"[..]));
        assert!(!format!("{read:?}").contains("s3cr3t") && !format!("{read:?}").contains("CERT"));
        let named = self::read("server: 'https://k8s.test', insecure-skip-tls-verify: true", "tokenFile: t");
        let named = named.unwrap();
        let tls = named.server.tls.unwrap();
        assert_eq!((tls.verify, tls.name.as_deref()), (Verify::Off, Some("k8s.test")));
        assert_eq!(named.token_file.as_deref(), Some("/etc/kube/t"));
    }

    #[test]
    fn what_would_start_a_program_and_what_is_no_kubeconfig_is_refused() {
        let told = |read: Result<Kubeconfig, Mistakes>| read.unwrap_err().list()[0].message.clone();
        let server = "server: 'https://10.2.0.1'";
        assert!(told(read(server, "exec: { command: aws }")).starts_with("`exec`: a program"));
        assert!(told(read(server, "username: a, password: b")).starts_with("`username`: passwords"));
        assert_eq!(told(read("", "")), "the cluster has no `server`");
        assert_eq!(told(read(server, "client-key-data: '?'")), "`client-key-data` is no base64");
        assert!(told(read_kubeconfig("/k", b"a: 1")).starts_with("it has no `current-context`"));
        assert!(
            told(read_kubeconfig("/k", b"current-context: x\ncontexts: []"))
                .contains("`contexts` has no `x`")
        );
        assert!(read_kubeconfig("/k", b"").is_err());
        let shown = read("server: 'https://10.2.0.1/k8s'", "token: s3cr3t").unwrap_err().to_string();
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
}
