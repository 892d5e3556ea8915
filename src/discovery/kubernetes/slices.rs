//! EndpointSlices of a service of Kubernetes: a list, and the events of a watch that follow it, as one set of endpoints.
//!
//! Pure. What must stay true: an event holds a slice as a whole, so the set is the union of the slices as they are known last, whatever
//! the order in which they came; a pod that stands in two for a moment is one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use crate::config::settings::KubernetesPort;
use crate::discovery::ask::short;
use crate::discovery::watch::Listed;

/// The slices as they are known, and at which version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::discovery) struct Slices {
    all: BTreeMap<String, Slice>,
    version: String,
}

/// What an event was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::discovery) enum Event {
    /// A slice is otherwise.
    Changed,
    /// Only the version is (a bookmark).
    Same,
    /// The version is too old: list anew.
    Expired,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Slice {
    endpoints: Vec<Endpoint>,
    ports: Vec<(String, u16)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Endpoint {
    pod: Option<String>,
    ip: IpAddr,
    state: State,
}

/// The better first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ready,
    NotReady,
    Terminating,
}

impl Slices {
    /// Those of a list.
    pub(in crate::discovery) fn of_list(body: &[u8]) -> Result<Self, String> {
        let json: Value =
            serde_json::from_slice(body).map_err(|error| format!("its answer is no JSON: {error}"))?;
        let mut slices = Self { all: BTreeMap::new(), version: version(&json)? };
        match &json["items"] {
            Value::Null => {}
            items => {
                for item in items.as_array().ok_or("`items` of its answer is no list")? {
                    slices.put(item)?;
                }
            }
        }
        Ok(slices)
    }

    /// The version to watch from.
    pub(in crate::discovery) fn version(&self) -> &str {
        &self.version
    }

    /// There is no endpoint at all, whatever its state.
    pub(in crate::discovery) fn is_empty(&self) -> bool {
        self.all.values().all(|slice| slice.endpoints.is_empty())
    }

    /// Takes an event, which is one line.
    pub(in crate::discovery) fn apply(&mut self, line: &[u8]) -> Result<Event, String> {
        let json: Value =
            serde_json::from_slice(line).map_err(|error| format!("an event is no JSON: {error}"))?;
        let object = &json["object"];
        match json["type"].as_str().unwrap_or_default() {
            "ADDED" | "MODIFIED" => {
                self.put(object)?;
                self.version = version(object)?;
                Ok(Event::Changed)
            }
            "DELETED" => {
                self.all.remove(object["metadata"]["name"].as_str().unwrap_or_default());
                self.version = version(object)?;
                Ok(Event::Changed)
            }
            "BOOKMARK" => {
                self.version = version(object)?;
                Ok(Event::Same)
            }
            "ERROR" if object["code"].as_u64() == Some(GONE) => Ok(Event::Expired),
            "ERROR" => {
                let message = object["message"].as_str().and_then(|text| short(text, None));
                Err(format!("the watch ended: {}", message.as_deref().unwrap_or("no reason was told")))
            }
            other => Err(format!("an event is of type `{}`", short(other, None).unwrap_or_default())),
        }
    }

    /// Who is in them. Where none is ready, and none on its way out, that is nobody.
    pub(in crate::discovery) fn listed(
        &self,
        service: &str,
        port: Option<&KubernetesPort>,
    ) -> Result<Vec<Listed>, String> {
        let mut by_name: BTreeMap<String, Listed> = BTreeMap::new();
        let mut best: BTreeMap<String, (State, IpAddr)> = BTreeMap::new();
        for slice in self.all.values().filter(|slice| !slice.endpoints.is_empty()) {
            let port = slice.port(service, port)?;
            for endpoint in &slice.endpoints {
                let key = endpoint.pod.clone().unwrap_or_else(|| endpoint.ip.to_string());
                // Of the two addresses that a pod may have, IPv4 comes first.
                let own = (endpoint.state, endpoint.ip);
                if best.get(&key).is_some_and(|known| (known.1.is_ipv6(), *known) <= (own.1.is_ipv6(), own)) {
                    continue;
                }
                best.insert(key.clone(), own);
                let drains = match endpoint.state {
                    State::Ready => None,
                    State::NotReady => Some("not ready (kubernetes)".to_owned()),
                    State::Terminating => Some("terminating (kubernetes)".to_owned()),
                };
                let listed = Listed {
                    name: endpoint.pod.clone(),
                    ip: endpoint.ip,
                    port: Some(port),
                    weight: None,
                    tier: None,
                    max_sessions: None,
                    drains,
                };
                by_name.insert(key, listed);
            }
        }
        if best.values().all(|(state, _)| *state == State::NotReady) {
            return Ok(Vec::new());
        }
        Ok(by_name.into_values().collect())
    }

    fn put(&mut self, object: &Value) -> Result<(), String> {
        let name = object["metadata"]["name"].as_str().filter(|name| !name.is_empty());
        let name = name.ok_or("a slice in its answer has no name")?;
        if self.all.len() >= SLICES_MAX && !self.all.contains_key(name) {
            return Err(format!("the service has more than {SLICES_MAX} slices"));
        }
        let slice = Slice::of(object, name)?;
        self.all.insert(name.to_owned(), slice);
        Ok(())
    }
}

impl Slice {
    fn of(object: &Value, name: &str) -> Result<Self, String> {
        let list = |key: &str| object[key].as_array().map_or(&[][..], Vec::as_slice);
        let endpoints: Result<Vec<Endpoint>, String> =
            list("endpoints").iter().map(|endpoint| Endpoint::of(endpoint, name)).collect();
        let port = |port: &Value| {
            let number = port["port"].as_u64().and_then(|number| u16::try_from(number).ok())?;
            (number > 0).then(|| (port["name"].as_str().unwrap_or_default().to_owned(), number))
        };
        Ok(Self { endpoints: endpoints?, ports: list("ports").iter().filter_map(port).collect() })
    }

    fn port(&self, service: &str, wanted: Option<&KubernetesPort>) -> Result<u16, String> {
        let found = match wanted {
            // Slices of a service without a selector may say no port.
            Some(KubernetesPort::Number(number)) if self.ports.is_empty() => Some(*number),
            Some(KubernetesPort::Number(number)) => {
                self.ports.iter().map(|(_, port)| *port).find(|port| port == number)
            }
            Some(KubernetesPort::Name(name)) => {
                self.ports.iter().find(|(own, _)| own == name).map(|(_, port)| *port)
            }
            None => {
                let first = self.ports.first().map(|(_, port)| *port);
                first.filter(|first| self.ports.iter().all(|(_, port)| port == first))
            }
        };
        found.ok_or_else(|| {
            let shown = |(name, port): &(String, u16)| match &**name {
                "" => port.to_string(),
                name => format!("{name} ({port})"),
            };
            let all: Vec<String> = self.ports.iter().map(shown).collect();
            let all = if all.is_empty() { "no ports".to_owned() } else { format!("the ports {}", all.join(", ")) };
            let all = short(&all, None).unwrap_or_default();
            match wanted {
                None => format!("the pods of {service} have {all}; say which with `port`"),
                Some(KubernetesPort::Name(name)) => format!("the pods of {service} have {all}, and not `{name}`"),
                Some(KubernetesPort::Number(number)) => {
                    format!("the pods of {service} have {all}, and not {number} (the port of the pods counts, not the service's)")
                }
            }
        })
    }
}

impl Endpoint {
    fn of(endpoint: &Value, slice: &str) -> Result<Self, String> {
        let shown = |text: &str| short(text, None).unwrap_or_default();
        let text = endpoint["addresses"][0].as_str().unwrap_or_default();
        let ip = text
            .parse()
            .map_err(|_| format!("slice {} has `{}`, which is no IP address", shown(slice), shown(text)))?;
        let target = &endpoint["targetRef"];
        let pod = target["name"].as_str().filter(|_| target["kind"].as_str() == Some("Pod"));
        let is = |key: &str| endpoint["conditions"][key].as_bool();
        // What is not said is ready.
        let state = match (is("ready").unwrap_or(true), is("terminating").unwrap_or(false)) {
            (true, _) => State::Ready,
            (false, true) => State::Terminating,
            (false, false) => State::NotReady,
        };
        Ok(Self { pod: pod.map(str::to_owned), ip, state })
    }
}

fn version(object: &Value) -> Result<String, String> {
    let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let is_good =
        !version.is_empty() && version.len() <= 64 && version.bytes().all(|byte| byte.is_ascii_graphic());
    if is_good { Ok(version.to_owned()) } else { Err("its answer has no resourceVersion".to_owned()) }
}

const GONE: u64 = 410;
const SLICES_MAX: usize = 1_000;

#[cfg(test)]
#[path = "slices_tests.rs"]
mod tests;
