//! Instances of a service of Consul, out of the JSON of `/v1/health/service/NAME`.
//!
//! Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use crate::discovery::ask::short;
use crate::discovery::watch::Listed;
use crate::dns::scaled;

/// Who stands in an answer. One bad entry spoils it.
pub(in crate::discovery) fn read(service: &str, body: &[u8]) -> Result<Vec<Listed>, String> {
    let json: Value =
        serde_json::from_slice(body).map_err(|error| format!("its answer is no JSON: {error}"))?;
    let entries = json.as_array().ok_or("its answer is no list of instances")?;
    if entries.len() > INSTANCES_MAX {
        return Err(format!("it names more than {INSTANCES_MAX} instances"));
    }
    let instances: Result<Vec<Instance<'_>>, String> = entries.iter().map(Instance::of).collect();
    let instances = instances?;
    if instances.iter().all(|one| one.state.is_down()) {
        // A verdict over all of them is more often one over the agent.
        return Ok(Vec::new());
    }
    let mut nodes: BTreeMap<&str, usize> = BTreeMap::new();
    for one in &instances {
        *nodes.entry(one.id).or_default() += 1;
    }
    let weights: Vec<u16> = instances.iter().map(Instance::weight).collect();
    let listed = instances.iter().zip(scaled(&weights)).map(|(one, scaled)| {
        // Left alone, each agent calls its instance as the service; then, as where two chose the same, the node tells them apart.
        let is_alone = one.id != service && nodes.get(one.id) == Some(&1);
        Listed {
            name: Some(if is_alone { one.id.to_owned() } else { format!("{}@{}", one.id, one.node) }),
            ip: one.ip,
            port: one.port,
            // Nothing, which a warning may weigh, stays nothing.
            weight: Some(if one.weight() == 0 { 0 } else { scaled }),
            tier: None,
            max_sessions: None,
            drains: one.state.drains(),
        }
    });
    Ok(listed.collect())
}

struct Instance<'a> {
    id: &'a str,
    node: &'a str,
    ip: IpAddr,
    port: Option<u16>,
    weights: [u16; 2],
    state: State,
}

/// The worst that its checks say.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Passing,
    Warning,
    Critical(String),
    Maintenance(String),
}

impl State {
    fn is_down(&self) -> bool {
        matches!(self, Self::Critical(_))
    }

    fn drains(&self) -> Option<String> {
        match self {
            Self::Passing | Self::Warning => None,
            Self::Critical(why) => Some(format!("{why} (consul)")),
            Self::Maintenance(why) if why.is_empty() => Some("maintenance (consul)".to_owned()),
            Self::Maintenance(why) => Some(format!("maintenance: {why} (consul)")),
        }
    }
}

impl<'a> Instance<'a> {
    fn of(entry: &'a Value) -> Result<Self, String> {
        let text = |part: &str, key: &str| entry[part][key].as_str().unwrap_or_default();
        let (id, node) = (text("Service", "ID"), text("Node", "Node"));
        if id.is_empty() {
            return Err("an instance in its answer has no Service.ID".to_owned());
        }
        let shown = short(id, None).unwrap_or_default();
        let own = text("Service", "Address");
        let address = if own.is_empty() { text("Node", "Address") } else { own };
        let ip = address.parse().map_err(|_| {
            let address = short(address, None).unwrap_or_default();
            format!(
                "`{shown}` is registered at `{address}`, which is no IP address; names are not looked up here"
            )
        })?;
        let port = match &entry["Service"]["Port"] {
            Value::Null => None,
            port => match port.as_u64().and_then(|port| u16::try_from(port).ok()) {
                Some(0) => None,
                Some(port) => Some(port),
                None => return Err(format!("`{shown}` has a port that is none")),
            },
        };
        // Consul takes no more than 65,535.
        let weight = |key: &str| entry["Service"]["Weights"][key].as_u64().unwrap_or(1);
        let weights = ["Passing", "Warning"].map(|key| u16::try_from(weight(key)).unwrap_or(u16::MAX));
        let checks = entry["Checks"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(Self { id, node, ip, port, weights, state: state(checks) })
    }

    fn weight(&self) -> u16 {
        if self.state == State::Warning { self.weights[1] } else { self.weights[0] }
    }
}

fn state(checks: &[Value]) -> State {
    let text =
        |check: &Value, key: &str| check[key].as_str().and_then(|text| short(text, None)).unwrap_or_default();
    let is = |check: &&Value, status: &str| check["Status"].as_str() == Some(status);
    let is_maintenance = |check: &&Value| {
        let id = check["CheckID"].as_str().unwrap_or_default();
        is(check, "critical") && (id == NODE_MAINTENANCE || id.starts_with(SERVICE_MAINTENANCE))
    };
    if let Some(check) = checks.iter().find(is_maintenance) {
        return State::Maintenance(text(check, "Notes"));
    }
    if let Some(check) = checks.iter().find(|check| is(check, "critical")) {
        let (name, notes) = (text(check, "Name"), text(check, "Notes"));
        let name = if name.is_empty() { text(check, "CheckID") } else { name };
        return State::Critical(if notes.is_empty() { name } else { format!("{name}: {notes}") });
    }
    if checks.iter().any(|check| is(&check, "warning")) { State::Warning } else { State::Passing }
}

const INSTANCES_MAX: usize = 10_000;
const NODE_MAINTENANCE: &str = "_node_maintenance";
const SERVICE_MAINTENANCE: &str = "_service_maintenance";

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, node: &str, service: &str, checks: &str) -> String {
        format!(
            r#"{{"Node":{{"Node":"{node}","Address":"10.0.0.9"}},"Service":{{"ID":"{id}",{service}}},"Checks":[{checks}]}}"#
        )
    }

    const HERE: &str = r#""Address":"10.0.0.1","Port":5432"#;

    fn one(service: &str, checks: &str) -> Listed {
        let others = entry("pg-9", "n", HERE, "");
        let body = format!("[{},{others}]", entry("pg-1", "n", service, checks));
        read("pg", body.as_bytes()).unwrap().swap_remove(0)
    }

    #[test]
    fn an_instance_is_where_it_says_or_where_its_node_is() {
        let listed = one(HERE, "");
        assert_eq!((listed.name.as_deref(), listed.ip.to_string()), (Some("pg-1"), "10.0.0.1".to_owned()));
        assert_eq!((listed.port, listed.weight, listed.drains), (Some(5432), Some(1), None));
        let listed = one(r#""Address":"","Port":0"#, "");
        assert_eq!((listed.ip.to_string(), listed.port), ("10.0.0.9".to_owned(), None));
    }

    #[test]
    fn who_is_critical_or_in_maintenance_gets_nothing_new_and_says_why() {
        let drains = |checks: &str| one(HERE, checks).drains;
        assert_eq!(drains(r#"{"CheckID":"c","Status":"passing"}"#), None);
        assert_eq!(
            drains(r#"{"CheckID":"c","Name":"disk","Notes":"","Status":"critical","Output":"s3cr3t"}"#)
                .unwrap(),
            "disk (consul)"
        );
        assert_eq!(
            drains(
                r#"{"CheckID":"serfHealth","Name":"Serf Health Status","Status":"critical"},
                   {"CheckID":"_service_maintenance:pg-1","Status":"critical","Notes":"new disk"}"#
            )
            .unwrap(),
            "maintenance: new disk (consul)"
        );
        assert_eq!(
            drains(r#"{"CheckID":"_node_maintenance","Status":"critical","Notes":""}"#).unwrap(),
            "maintenance (consul)"
        );
    }

    #[test]
    fn one_that_is_warned_about_has_its_other_weight() {
        let weights = r#""Address":"10.0.0.1","Port":1,"Weights":{"Passing":7,"Warning":2}"#;
        assert_eq!(one(weights, "").weight, Some(7));
        assert_eq!(one(weights, r#"{"Status":"warning"}"#).weight, Some(2));
        let large = r#""Address":"10.0.0.1","Port":1,"Weights":{"Passing":1000,"Warning":1}"#;
        assert_eq!(one(large, "").weight, Some(250), "a quarter of each");
        let nothing = r#""Address":"10.0.0.1","Port":1,"Weights":{"Passing":1,"Warning":0}"#;
        assert_eq!(one(nothing, r#"{"Status":"warning"}"#).weight, Some(0));
        let most = r#""Address":"10.0.0.1","Port":1,"Weights":{"Passing":18446744073709551615}"#;
        assert_eq!(one(most, "").weight, Some(256));
    }

    #[test]
    fn two_of_one_name_are_told_apart_by_their_nodes() {
        let names = |ids: &[(&str, &str)]| {
            let all: Vec<String> = ids.iter().map(|(id, node)| entry(id, node, HERE, "")).collect();
            let listed = read("pg", format!("[{}]", all.join(",")).as_bytes()).unwrap();
            listed.into_iter().filter_map(|one| one.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&[("pg-1", "a"), ("pg-2", "b")]), ["pg-1", "pg-2"]);
        assert_eq!(names(&[("pg", "a")]), ["pg@a"], "as agents call them: a second one changes no name");
        assert_eq!(names(&[("x", "a"), ("x", "b"), ("y", "b")]), ["x@a", "x@b", "y"]);
    }

    #[test]
    fn all_critical_means_nobody_and_maintenance_of_all_is_meant() {
        let critical = entry("pg-1", "n", HERE, r#"{"Status":"critical"}"#);
        assert_eq!(read("pg", format!("[{critical}]").as_bytes()), Ok(Vec::new()));
        assert_eq!(read("pg", b"[]"), Ok(Vec::new()));
        let upkeep =
            entry("pg-1", "n", HERE, r#"{"CheckID":"_service_maintenance:pg-1","Status":"critical"}"#);
        assert_eq!(read("pg", format!("[{upkeep}]").as_bytes()).unwrap().len(), 1);
    }

    #[test]
    fn one_bad_entry_spoils_the_answer() {
        let told = |body: &str| read("pg", body.as_bytes()).unwrap_err();
        assert!(told("[{").starts_with("its answer is no JSON"));
        assert_eq!(told("{}"), "its answer is no list of instances");
        assert_eq!(told("[{}]"), "an instance in its answer has no Service.ID");
        let name = entry("pg-1", "n", r#""Address":"db.example.org","Port":1"#, "");
        assert_eq!(
            told(&format!("[{name}]")),
            "`pg-1` is registered at `db.example.org`, which is no IP address; names are not looked up here"
        );
        let port = entry("pg-1", "n", r#""Address":"10.0.0.1","Port":70000"#, "");
        assert_eq!(told(&format!("[{port}]")), "`pg-1` has a port that is none");
    }
}
