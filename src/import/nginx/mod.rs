//! nginx: the `stream` block. A `server` becomes a listener, an `upstream` a pool.

mod routes;
mod server;
mod upstream;
mod words;

use super::notes::{Notes, Standing};
use super::plan::Plan;
use super::yaml::Yaml;
use words::{Directive, directives};

/// Reads a file that is included, or every file of a pattern, each with its name; or says why not.
pub type Include<'a> = &'a dyn Fn(&str) -> Result<Vec<(String, String)>, String>;

/// Reads the text, and what it includes, into the plan.
pub(super) fn translate(name: &str, text: &str, include: Include<'_>, plan: &mut Plan, notes: &mut Notes) {
    let mut left = FILES_MAX;
    let all = with_includes(directives(name, text), include, &mut left, 0, notes);
    // A file that `stream` includes has what stands in it.
    let is_inner = !all.iter().any(|one| matches!(one.name(), "stream" | "http" | "events" | "mail"))
        && all.iter().any(|one| matches!(one.name(), "upstream" | "server"));
    if is_inner {
        stream(&all, plan, notes);
        return;
    }
    for directive in &all {
        main(directive, plan, notes);
    }
}

fn main(directive: &Directive, plan: &mut Plan, notes: &mut Notes) {
    let at = directive.at();
    match directive.name() {
        "stream" => stream(directive.block.as_deref().unwrap_or_default(), plan, notes),
        "http" | "mail" => {
            let text = format!("`{}`: that is not balanced here", directive.name());
            notes.tell(&at, Standing::Http, text);
        }
        "worker_processes" => match directive.word(1) {
            Some("auto") | None => {}
            Some(count) if count.parse::<u16>().is_ok_and(|count| (1..=1_024).contains(&count)) => {
                plan.set_top(&["workers"], Yaml::word(count));
            }
            Some(_) => {}
        },
        "events" => {
            let inner = directive.block.iter().flatten();
            for one in inner.filter(|one| one.name() == "worker_connections") {
                let text = "`worker_connections`: as many sessions as the limit of open files allows";
                notes.tell(&one.at(), Standing::NotNeeded, text);
            }
        }
        "user"
        | "pid"
        | "daemon"
        | "error_log"
        | "worker_rlimit_nofile"
        | "worker_cpu_affinity"
        | "worker_priority"
        | "load_module"
        | "pcre_jit"
        | "master_process"
        | "working_directory"
        | "env"
        | "thread_pool"
        | "lock_file"
        | "worker_shutdown_timeout"
        | "worker_rlimit_core"
        | "timer_resolution"
        | "include" => {
            let text = format!("`{}`: the unit and the system see to that", directive.name());
            notes.tell(&at, Standing::NotNeeded, text);
        }
        name => notes.unknown(&at, name, &directive.words.join(" ")),
    }
}

fn stream(all: &[Directive], plan: &mut Plan, notes: &mut Notes) {
    for directive in all.iter().filter(|one| one.name() == "upstream") {
        let name = format!("upstream {}", directive.word(1).unwrap_or_default());
        if plan.has_room(&name, &directive.at(), notes) {
            upstream::read(directive, plan, notes);
        }
    }
    let inherited = all.iter().filter(|one| server::is_known(one.name()) || one.name() == "map");
    let inherited: Vec<&Directive> = inherited.take(INHERITED_MAX).collect();
    let mut number = 0;
    for directive in all.iter().filter(|one| one.name() == "server") {
        number += 1;
        if plan.has_room(&format!("server {number}"), &directive.at(), notes) {
            server::read(directive, &inherited, number, plan, notes);
        }
    }
    for directive in all {
        match directive.name() {
            "upstream" | "server" => {}
            name if server::is_known(name) => {}
            name => outside(directive, name, notes),
        }
        notes.leave();
    }
}

/// What stands beside servers and upstreams.
fn outside(directive: &Directive, name: &str, notes: &mut Notes) {
    let at = directive.at();
    let whole: Vec<&str> = directive.words.iter().take(4).map(String::as_str).collect();
    match name {
        "log_format" | "access_log" | "error_log" | "open_log_file_cache" => {
            notes.tell(
                &at,
                Standing::NotNeeded,
                format!("`{name}`: a log is written here without being asked for"),
            );
        }
        // Read where a `proxy_pass` names what it makes.
        "map" if directive.word(1) == Some("$ssl_preread_server_name") => {}
        "map" | "geo" | "split_clients" | "js_import" | "js_set" | "js_var" | "set" => {
            notes.lost(
                &at,
                format!("`{}`: there are no variables here, and a listener has one pool", whole.join(" ")),
            );
        }
        "variables_hash_max_size"
        | "variables_hash_bucket_size"
        | "map_hash_max_size"
        | "map_hash_bucket_size"
        | "types_hash_max_size"
        | "tcp_nodelay"
        | "preread_buffer_size" => {
            notes.tell(&at, Standing::NotNeeded, format!("`{name}`: nothing here is tuned by it"));
        }
        _ => notes.unknown(&at, name, &whole.join(" ")),
    }
}

/// The directives with those of the files that they include.
fn with_includes(
    all: Vec<Directive>,
    include: Include<'_>,
    left: &mut usize,
    depth: usize,
    notes: &mut Notes,
) -> Vec<Directive> {
    let mut whole = Vec::with_capacity(all.len());
    for mut directive in all {
        if let Some(block) = directive.block.take() {
            // `http` may include what is not here.
            let block = match directive.name() {
                "http" | "mail" => Vec::new(),
                _ => with_includes(block, include, left, depth, notes),
            };
            directive.block = Some(block);
        }
        if directive.name() != "include" {
            whole.push(directive);
            continue;
        }
        let at = directive.at();
        let pattern = directive.word(1).unwrap_or_default();
        if depth >= DEPTH_MAX {
            notes.lost(&at, format!("`include {pattern}`: files include each other too deep"));
            continue;
        }
        match include(pattern) {
            Ok(files) => {
                for (name, text) in files {
                    if *left == 0 {
                        notes.lost(&at, format!("`include {pattern}`: more than {FILES_MAX} files"));
                        break;
                    }
                    *left -= 1;
                    whole.extend(with_includes(directives(&name, &text), include, left, depth + 1, notes));
                }
            }
            Err(why) => notes.lost(&at, format!("`include {pattern}`: {why}")),
        }
    }
    whole
}

/// Directives that each server has of `stream`.
const INHERITED_MAX: usize = 1_000;
const DEPTH_MAX: usize = 10;
const FILES_MAX: usize = 1_000;
