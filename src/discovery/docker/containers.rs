//! Containers of Docker or Podman, out of the JSON of `/containers/json`, and what an event means for them.
//!
//! Pure.

use std::net::IpAddr;

use serde_json::Value;

use crate::config::settings::DockerSource;
use crate::discovery::ask::short;
use crate::discovery::watch::Listed;

/// Who stands in an answer, each with the container's id. One that says nothing of its port, or lies in networks of which none was
/// chosen, spoils it.
pub(in crate::discovery) fn read(
    source: &DockerSource,
    body: &[u8],
) -> Result<Vec<(String, Listed)>, String> {
    let json: Value =
        serde_json::from_slice(body).map_err(|error| format!("its answer is no JSON: {error}"))?;
    let containers = json.as_array().ok_or("its answer is no list of containers")?;
    if containers.len() > CONTAINERS_MAX {
        return Err(format!("it names more than {CONTAINERS_MAX} containers"));
    }
    let mut all = Vec::new();
    for container in containers {
        let id = container["Id"].as_str().filter(|id| !id.is_empty()).ok_or("a container has no Id")?;
        if let Some(listed) = one(source, container, id)? {
            all.push((id.to_owned(), listed));
        }
    }
    Ok(all)
}

fn one(source: &DockerSource, container: &Value, id: &str) -> Result<Option<Listed>, String> {
    let names = container["Names"].as_array().map_or(&[][..], Vec::as_slice);
    // Links of other containers give it names with a further slash.
    let own = names.iter().filter_map(Value::as_str).map(|name| name.trim_start_matches('/'));
    let name = own.clone().find(|name| !name.contains('/')).or(own.clone().next()).unwrap_or(id);
    let name = short(name, None).unwrap_or_else(|| id.to_owned());
    // Those that are created, restarting or gone have no address that answers.
    let state = container["State"].as_str().unwrap_or_default();
    if !matches!(state, "running" | "paused") {
        return Ok(None);
    }
    let Some(ip) = address(source, container, &name)? else { return Ok(None) };
    let label = |key: &str| container["Labels"][key].as_str();
    let number = |key: &str, most: u16| match label(key) {
        None => Ok(None),
        Some(text) => match text.parse::<u16>() {
            Ok(number) if number <= most => Ok(Some(number)),
            _ => {
                let text = short(text, None).unwrap_or_default();
                Err(format!("container {name}: label {key} is `{text}`; it is a number of at most {most}"))
            }
        },
    };
    let port = match source.port {
        Some(port) => port,
        None => number(PORT_LABEL, u16::MAX)?.filter(|port| *port > 0).ok_or_else(|| {
            format!("container {name} has no label {PORT_LABEL}, and `port` of the source is not said either")
        })?,
    };
    let status = container["Status"].as_str().unwrap_or_default();
    let drains = if state == "paused" {
        Some("paused (docker)")
    } else if status.contains("(unhealthy)") {
        Some("unhealthy (docker)")
    } else {
        None
    };
    Ok(Some(Listed {
        name: Some(name.clone()),
        ip,
        port: Some(port),
        weight: number(WEIGHT_LABEL, 256)?,
        tier: None,
        max_sessions: None,
        drains: drains.map(str::to_owned),
    }))
}

/// Where a container answers; `None`: in none of its networks yet, or not in the one that is looked at.
fn address(source: &DockerSource, container: &Value, name: &str) -> Result<Option<IpAddr>, String> {
    let none = serde_json::Map::new();
    let networks = container["NetworkSettings"]["Networks"].as_object().unwrap_or(&none);
    let (key, network) = match (&source.network, networks.len()) {
        (_, 0) => return Ok(None),
        (Some(wanted), _) => match networks.get_key_value(wanted) {
            Some(found) => found,
            None => return Ok(None),
        },
        (None, 1) => match networks.iter().next() {
            Some(found) => found,
            None => return Ok(None),
        },
        (None, _) => {
            let all: Vec<&str> = networks.keys().map(String::as_str).collect();
            let all = short(&all.join(", "), None).unwrap_or_default();
            return Err(format!("container {name} is in several networks ({all}); say which with `network`"));
        }
    };
    if key == "host" {
        return Ok(Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)));
    }
    let texts = ["IPAddress", "GlobalIPv6Address"].map(|kind| network[kind].as_str().unwrap_or_default());
    let Some(text) = texts.into_iter().find(|text| !text.is_empty()) else { return Ok(None) };
    let ip = text.parse().map_err(|_| {
        let text = short(text, None).unwrap_or_default();
        format!("container {name} is at `{text}`, which is no IP address")
    })?;
    Ok(Some(ip))
}

/// What an event of a container means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::discovery) enum Event {
    /// Something is otherwise: ask.
    Changed,
    /// The container of this id was told to stop.
    Stops(String),
    /// The container of this id was started.
    Starts(String),
    /// Nothing of interest, such as the command of a health check.
    Nothing,
}

/// Reads an event, which is one line.
pub(in crate::discovery) fn event(line: &[u8]) -> Result<Event, String> {
    let json: Value =
        serde_json::from_slice(line).map_err(|error| format!("an event is no JSON: {error}"))?;
    let text = |key: &str| json[key].as_str().unwrap_or_default();
    let action = if text("Action").is_empty() { text("status") } else { text("Action") };
    let id = json["Actor"]["ID"].as_str().unwrap_or(text("id")).to_owned();
    if text("Type") == "network" {
        return Ok(Event::Changed);
    }
    let signal = json["Actor"]["Attributes"]["signal"].as_str().unwrap_or_default();
    Ok(match action {
        "kill" if ENDING_SIGNALS.contains(&signal) => Event::Stops(id),
        "start" | "unpause" => Event::Starts(id),
        "create" | "kill" | "resize" | "top" | "attach" | "detach" | "commit" | "copy" | "export"
        | "archive-path" => Event::Nothing,
        action if action.starts_with("exec") => Event::Nothing,
        _ => Event::Changed,
    })
}

/// With which a container is stopped: TERM, and what images choose instead (PostgreSQL INT, nginx QUIT), and KILL.
const ENDING_SIGNALS: [&str; 4] = ["15", "2", "3", "9"];
pub(super) const PORT_LABEL: &str = "evenkeel.port";
const WEIGHT_LABEL: &str = "evenkeel.weight";
const CONTAINERS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::{HttpAt, HttpServer};

    fn source(port: Option<u16>, network: Option<&str>) -> DockerSource {
        DockerSource {
            server: HttpServer { at: HttpAt::Socket("/run/docker.sock".into()), tls: None },
            label: "evenkeel.pool=pg".into(),
            port,
            network: network.map(str::to_owned),
        }
    }

    fn container(labels: &str, status: &str, networks: &str) -> String {
        let state = if status.contains("Paused") { "paused" } else { "running" };
        format!(
            r#"[{{"Id":"abc","Names":["/web/db","/pg1"],"State":"{state}","Status":"{status}","Labels":{{{labels}}},
               "NetworkSettings":{{"Networks":{{{networks}}}}}}}]"#
        )
    }

    const DBS: &str = r#""dbs":{"IPAddress":"10.77.0.2","GlobalIPv6Address":""}"#;

    fn read_one(source: &DockerSource, body: &str) -> Result<Option<Listed>, String> {
        Ok(read(source, body.as_bytes())?.pop().map(|(_, listed)| listed))
    }

    #[test]
    fn a_container_is_known_by_its_name_and_says_where_it_listens() {
        let body = container(r#""evenkeel.port":"5432","evenkeel.weight":"3""#, "Up 3 seconds", DBS);
        let listed = read_one(&source(None, None), &body).unwrap().unwrap();
        assert_eq!((listed.name.as_deref(), listed.ip.to_string()), (Some("pg1"), "10.77.0.2".to_owned()));
        assert_eq!((listed.port, listed.weight, listed.drains), (Some(5432), Some(3), None));
        let listed = read_one(&source(Some(9), None), &body).unwrap().unwrap();
        assert_eq!(listed.port, Some(9), "the file says it of all");
        let six = r#""dbs":{"IPAddress":"","GlobalIPv6Address":"2001:db8::2"}"#;
        let listed = read_one(&source(Some(9), None), &container("", "Up", six)).unwrap().unwrap();
        assert_eq!(listed.ip.to_string(), "2001:db8::2");
        let host = r#""host":{"IPAddress":""}"#;
        let listed = read_one(&source(Some(9), None), &container("", "Up", host)).unwrap().unwrap();
        assert_eq!(listed.ip.to_string(), "127.0.0.1");
    }

    #[test]
    fn who_is_paused_or_unhealthy_gets_nothing_new() {
        let drains = |status: &str| {
            read_one(&source(Some(9), None), &container("", status, DBS)).unwrap().unwrap().drains
        };
        assert_eq!(drains("Up 3 seconds (healthy)"), None);
        assert_eq!(drains("Up 1 second (health: starting)"), None);
        assert_eq!(drains("Up 3 seconds (unhealthy)").unwrap(), "unhealthy (docker)");
        assert_eq!(drains("Up 3 seconds (Paused)").unwrap(), "paused (docker)");
    }

    #[test]
    fn one_that_has_no_address_yet_is_left_out() {
        for networks in ["", r#""dbs":{"IPAddress":""}"#] {
            assert_eq!(read_one(&source(Some(9), None), &container("", "Up", networks)), Ok(None));
        }
        assert_eq!(read_one(&source(Some(9), Some("web")), &container("", "Up", DBS)), Ok(None));
        assert_eq!(read_one(&source(Some(9), None), "[]"), Ok(None));
        let gone = container("", "Up", DBS).replace("running", "exited");
        assert_eq!(read_one(&source(Some(9), None), &gone), Ok(None));
    }

    #[test]
    fn what_is_not_said_is_told() {
        let told = |source: &DockerSource, body: &str| read_one(source, body).unwrap_err();
        assert_eq!(
            told(&source(None, None), &container("", "Up", DBS)),
            "container pg1 has no label evenkeel.port, and `port` of the source is not said either"
        );
        let two = format!(r#"{DBS},"web":{{"IPAddress":"10.78.0.2"}}"#);
        assert_eq!(
            told(&source(Some(9), None), &container("", "Up", &two)),
            "container pg1 is in several networks (dbs, web); say which with `network`"
        );
        let body = container(r#""evenkeel.weight":"heavy""#, "Up", DBS);
        assert_eq!(
            told(&source(Some(9), None), &body),
            "container pg1: label evenkeel.weight is `heavy`; it is a number of at most 256"
        );
        assert!(told(&source(Some(9), None), "{").starts_with("its answer is no JSON"));
        assert_eq!(told(&source(Some(9), None), "[{}]"), "a container has no Id");
    }

    #[test]
    fn events_say_when_to_ask_and_who_is_being_stopped() {
        let of = |kind: &str, action: &str, more: &str| {
            let line = format!(
                r#"{{"Type":"{kind}","Action":"{action}","Actor":{{"ID":"abc","Attributes":{{{more}}}}}}}"#
            );
            event(line.as_bytes()).unwrap()
        };
        assert_eq!(of("container", "kill", r#""signal":"15""#), Event::Stops("abc".into()));
        assert_eq!(of("container", "kill", r#""signal":"1""#), Event::Nothing);
        assert_eq!(of("container", "start", ""), Event::Starts("abc".into()));
        assert_eq!(of("container", "health_status: healthy", ""), Event::Changed);
        assert_eq!(of("container", "exec_die", ""), Event::Nothing);
        assert_eq!(of("network", "disconnect", ""), Event::Changed);
        assert!(event(b"<html>").is_err());
    }
}
