//! Sources that are asked over HTTP (`http`, `consul`, `docker`, `kubernetes` of `from`): where, and for what.
//!
//! Pure. Nobody is asked here.

use std::sync::Arc;

use super::choice::{needed, open};
use super::hosts::is_host_name;
use super::login::terms;
use super::section::Fields;
use super::url::{self, Url};
use super::values::scalar;
use crate::config::document::{Entry, Value};
use crate::config::mistake::{Report, quoted};
use crate::config::settings::{
    ConsulSource, DockerSource, HttpAt, HttpServer, HttpSource, KubernetesPort, KubernetesSource, SourceKind,
    TlsTerms, Verify,
};
use crate::config::spec::{CONSUL, DOCKER, HTTP, KUBERNETES, Section, TLS_OF_SOURCE};

/// A source as people call it, and what it is.
type Read = Option<(String, SourceKind)>;

/// A URL, alone or with more.
pub(super) fn http(choice: &Entry, choices: &Fields<'_>, report: &mut Report) -> Read {
    let (fields, entry) = opened("url", choice, choices, &HTTP, report)?;
    let every = fields.duration("every", report);
    let token_file = path(&fields, "token_file", report);
    let url = read_url(entry?, fields.kind("url").most(), report);
    let server = url.as_ref().and_then(|url| server(url, &fields, report));
    let (url, server, token_file) = (url?, server?, token_file?);
    let text = scalar("url", &entry?.value, "a URL", report)?;
    if matches!(url.at, HttpAt::Socket(_)) {
        report
            .tell(entry?.value.place, "`url` is asked over the network; it begins with http:// or https://");
        return None;
    }
    let source = HttpSource { server, path: url.path, every, token_file };
    Some((format!("http {text}"), SourceKind::Http(source)))
}

/// A service of Consul, by its name alone or with more.
pub(super) fn consul(choice: &Entry, choices: &Fields<'_>, report: &mut Report) -> Read {
    let (fields, entry) = opened("service", choice, choices, &CONSUL, report)?;
    let text = |key: &str, report: &mut Report| optional(&fields, key, report);
    let (tag, datacenter) = (text("tag", report), text("datacenter", report));
    let filter = text("filter", report);
    let token_file = path(&fields, "token_file", report);
    let stale = fields.switch("stale", report);
    let agent = match fields.get("agent") {
        Some(agent) => read_url(agent, usize::MAX, report),
        None => url::parse(CONSUL_AGENT).ok(),
    };
    if let (Some(url), Some(agent)) = (agent.as_ref().filter(|url| url.path != "/"), fields.get("agent")) {
        let message = format!("`agent` is a server and has no path; leave {} away", quoted(&url.path));
        report.tell(agent.value.place, message);
    }
    let server = agent.as_ref().and_then(|url| server(url, &fields, report));
    let service = bounded(entry?, &fields, "service", report)?;
    let (tag, datacenter, filter) = (tag?, datacenter?, filter?);
    let more = [("tag", &tag), ("dc", &datacenter), ("filter", &filter)];
    let more = more.into_iter().filter_map(|(key, value)| Some(format!(" {key}={}", value.as_ref()?)));
    let called = format!("consul {service}{}", more.collect::<String>());
    let source =
        ConsulSource { server: server?, service, tag, datacenter, stale, filter, token_file: token_file? };
    Some((called, SourceKind::Consul(source)))
}

/// Containers, by their label alone or with more.
pub(super) fn docker(choice: &Entry, choices: &Fields<'_>, report: &mut Report) -> Read {
    let (fields, entry) = opened("label", choice, choices, &DOCKER, report)?;
    let port = fields.get("port").map(|_| fields.whole::<u16>("port", report));
    let network = optional(&fields, "network", report);
    let socket = match fields.get("socket") {
        Some(_) => path(&fields, "socket", report)?,
        None => Some(DOCKER_SOCKET.into()),
    };
    let (label, network) = (bounded(entry?, &fields, "label", report)?, network?);
    let server = HttpServer { at: HttpAt::Socket(socket?.into()), tls: None };
    let called = match &network {
        Some(network) => format!("docker {label} network={network}"),
        None => format!("docker {label}"),
    };
    Some((called, SourceKind::Docker(DockerSource { server, label, port, network })))
}

/// A service of Kubernetes, by its name alone or with more.
pub(super) fn kubernetes(choice: &Entry, choices: &Fields<'_>, report: &mut Report) -> Read {
    let (fields, entry) = opened("service", choice, choices, &KUBERNETES, report)?;
    let name = |key: &str, entry: &Entry, report: &mut Report| {
        let kind = fields.kind(key);
        let text = scalar(key, &entry.value, kind.expected(), report)?;
        if is_host_name(text)
            && text.len() <= kind.most()
            && !text.contains('_')
            && text == text.to_lowercase()
        {
            return Some(text.to_owned());
        }
        report.tell(entry.value.place, format!("`{key}` must be {}, not {}", kind.expected(), quoted(text)));
        None
    };
    // All are read before one is given up, so that all are told.
    let namespace = fields.get("namespace").map(|entry| name("namespace", entry, report));
    let kubeconfig = path(&fields, "kubeconfig", report);
    let port = fields.get("port").map(|entry| kubernetes_port(entry, &fields, report));
    let service = name("service", entry?, report)?;
    let (namespace, port) = (flat(namespace)?, flat(port)?);
    let in_front = namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
    let behind = match &port {
        None => String::new(),
        Some(KubernetesPort::Name(name)) => format!(":{name}"),
        Some(KubernetesPort::Number(number)) => format!(":{number}"),
    };
    let called = format!("kubernetes {in_front}{service}{behind}");
    let source = KubernetesSource { namespace, service, port, kubeconfig: kubeconfig? };
    Some((called, SourceKind::Kubernetes(source)))
}

fn kubernetes_port(entry: &Entry, fields: &Fields<'_>, report: &mut Report) -> Option<KubernetesPort> {
    let kind = fields.kind("port");
    let text = scalar("port", &entry.value, kind.expected(), report)?;
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(number) if number > 0 => Some(KubernetesPort::Number(number)),
        Err(_) if !is_number && text.len() <= kind.most() => Some(KubernetesPort::Name(text.to_owned())),
        _ => {
            report
                .tell(entry.value.place, format!("`port` must be {}, not {}", kind.expected(), quoted(text)));
            None
        }
    }
}

/// What may be left out; outer `None`: it is there, and wrong.
fn flat<T>(said: Option<Option<T>>) -> Option<Option<T>> {
    match said {
        None => Some(None),
        Some(read) => read.map(Some),
    }
}

/// The keys of a choice, and the entry of the one without which it means nothing, which may stand alone.
fn opened<'a>(
    key: &str,
    choice: &'a Entry,
    choices: &Fields<'a>,
    section: &'static Section,
    report: &mut Report,
) -> Option<(Fields<'a>, Option<&'a Entry>)> {
    if matches!(choice.value.value, Value::Map(_)) {
        let fields = open(choice, choices, report)?;
        let entry = needed(key, choice, &fields, report);
        return Some((fields, entry));
    }
    Some((Fields::none(section), Some(choice)))
}

fn read_url(entry: &Entry, most: usize, report: &mut Report) -> Option<Url> {
    let text = scalar(&entry.key, &entry.value, "a URL", report)?;
    if text.len() > most {
        report.tell(entry.value.place, format!("a `url` has at most {most} bytes"));
        return None;
    }
    match url::parse(text) {
        Ok(url) => Some(url),
        Err(why) => {
            if text.contains('@') {
                report.hide(entry.value.place);
            }
            report.tell(entry.value.place, why);
            None
        }
    }
}

/// The server of a URL, and whom its TLS believes.
fn server(url: &Url, fields: &Fields<'_>, report: &mut Report) -> Option<HttpServer> {
    let terms = match fields.get("tls") {
        Some(entry) if !url.is_tls => {
            report.tell(entry.place, "`tls` is for a URL that begins with https://");
            return None;
        }
        Some(entry) => terms(entry, &TLS_OF_SOURCE, report)?,
        None => TlsTerms { verify: Verify::Full, ca: None, name: None, own: None },
    };
    Some(HttpServer { tls: url.is_tls.then(|| named(terms, &url.at)), at: url.at.clone() })
}

/// The certificate bears the name that is asked, where no other is said.
pub(in crate::config) fn named(terms: TlsTerms, at: &HttpAt) -> Arc<TlsTerms> {
    let name = terms.name.or_else(|| match at {
        HttpAt::Name(name, _) => Some(name.trim_end_matches('.').into()),
        _ => None,
    });
    Arc::new(TlsTerms { name, ..terms })
}

/// A text that may be there; outer `None`: it is none that could be.
fn optional(fields: &Fields<'_>, key: &str, report: &mut Report) -> Option<Option<String>> {
    flat(fields.get(key).map(|entry| bounded(entry, fields, key, report)))
}

fn bounded(entry: &Entry, fields: &Fields<'_>, key: &str, report: &mut Report) -> Option<String> {
    let kind = fields.kind(key);
    let text = scalar(key, &entry.value, kind.expected(), report)?;
    if text.is_empty() || text.len() > kind.most() || text.chars().any(char::is_control) {
        report.tell(entry.value.place, format!("`{key}` must be {}, not {}", kind.expected(), quoted(text)));
        return None;
    }
    Some(text.to_owned())
}

/// A path from the root that may be there; outer `None`: it is none.
fn path(fields: &Fields<'_>, key: &str, report: &mut Report) -> Option<Option<Box<str>>> {
    let Some(entry) = fields.get(key) else { return Some(None) };
    let kind = fields.kind(key);
    let text = scalar(key, &entry.value, kind.expected(), report)?;
    if !text.starts_with('/') || text.len() > kind.most() {
        let message = format!("`{key}` must be {}, not {}", kind.expected(), quoted(text));
        report.tell(entry.value.place, message);
        return None;
    }
    Some(Some(text.into()))
}

const CONSUL_AGENT: &str = "http://127.0.0.1:8500";
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
