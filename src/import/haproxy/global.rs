//! `global` and `resolvers` of HAProxy: what concerns the whole process.

use super::super::notes::{Notes, Standing};
use super::super::plan::Plan;
use super::super::units::{self, milliseconds};
use super::super::yaml::Yaml;
use super::sections::Section;

/// The section of the process.
// long because: each arm is a word of the other balancer
pub(super) fn read(section: &Section, plan: &mut Plan, notes: &mut Notes) {
    for line in &section.lines {
        let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
        let at = notes.at(line.number);
        match &*words {
            ["maxconn", count, ..] if units::is_count(count) => {
                plan.set_top(&["limits", "tcp_sessions"], Yaml::word(*count));
            }
            ["nbthread", count, ..]
                if count.parse::<u16>().is_ok_and(|count| (1..=1_024).contains(&count)) =>
            {
                plan.set_top(&["workers"], Yaml::word(*count));
            }
            ["hard-stop-after", time, ..] => {
                if let Some(ms) = milliseconds(time, 1) {
                    plan.set_top(&["shutdown", "grace"], Yaml::Word(units::duration(ms, units::GRACE)));
                }
            }
            [
                "log"
                | "log-send-hostname"
                | "log-tag"
                | "user"
                | "group"
                | "uid"
                | "gid"
                | "chroot"
                | "daemon"
                | "pidfile"
                | "master-worker"
                | "ulimit-n"
                | "stats"
                | "node"
                | "description"
                | "ca-base"
                | "crt-base"
                | "quiet"
                | "setenv"
                | "presetenv"
                | "unsetenv"
                | "resetenv"
                | "localpeer"
                | "insecure-fork-wanted"
                | "expose-experimental-directives"
                | "zero-warning"
                | "set-dumpable"
                | "strict-limits"
                | "nbproc",
                ..,
            ] => {
                let why = crate::config::foreign_key("HAProxy", words[0]).unwrap_or_else(|| {
                    format!("`{}` is left out: the unit and the system see to that", words[0])
                });
                notes.tell(&at, Standing::NotNeeded, why);
            }
            ["no" | "unsupported", ..] => {}
            [word, ..]
                if word.starts_with("tune.")
                    || word.starts_with("ssl-")
                    || word.starts_with("lua-")
                    || word.starts_with("h1-")
                    || word.starts_with("h2-")
                    || word.starts_with("quic")
                    || word.starts_with("httpclient")
                    || word.starts_with("51degrees")
                    || word.starts_with("deviceatlas")
                    || word.starts_with("wurfl") =>
            {
                notes.tell(&at, Standing::NotNeeded, format!("`{word}`: nothing here is tuned by it"));
            }
            [word, ..] => notes.unknown(&at, word, &words.join(" ")),
            [] => {}
        }
    }
}

/// Whom names are asked of.
pub(super) fn resolvers(section: &Section, plan: &mut Plan, notes: &mut Notes) {
    let mut servers = Vec::new();
    for line in &section.lines {
        let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
        let at = notes.at(line.number);
        match &*words {
            ["nameserver", _, address, ..] => {
                let bare = address.rsplit('@').next().unwrap_or_default();
                let (host, port) = units::host_and_port(bare);
                if host.parse::<std::net::IpAddr>().is_ok() {
                    servers.push(Yaml::Word(units::joined(&host, port.as_deref())));
                } else {
                    notes.lost(&at, format!("`nameserver {address}`: a server of names is an address here"));
                }
            }
            ["resolve_retries", count, ..] if count.parse::<u32>().is_ok() => {
                let count: u32 = count.parse().unwrap_or(2);
                plan.set_top(&["dns", "attempts"], Yaml::word(count.clamp(1, 10).to_string()));
            }
            ["timeout", "retry", time, ..] => {
                if let Some(ms) = milliseconds(time, 1) {
                    plan.set_top(&["dns", "timeout"], Yaml::Word(units::duration(ms, (50, 30_000))));
                }
            }
            ["parse-resolv-conf" | "accepted_payload_size", ..] | ["timeout", "resolve", ..] => {
                notes.tell(
                    &at,
                    Standing::NotNeeded,
                    format!("`{}`: names are asked by the time that their answers last", words.join(" ")),
                );
            }
            ["hold", ..] => {
                notes.different(
                    &at,
                    format!("`{}`: what was found stays while a server of names fails", words.join(" ")),
                );
            }
            [word, ..] => notes.unknown(&at, word, &words.join(" ")),
            [] => {}
        }
    }
    if !servers.is_empty() {
        let before = match Yaml::Map(plan.top.clone()).get(&["dns", "servers"]) {
            Some(Yaml::List(items)) => items.clone(),
            _ => Vec::new(),
        };
        let mut all = before;
        all.extend(servers);
        all.truncate(8);
        plan.set_top(&["dns", "servers"], Yaml::List(all));
    }
}
