//! `status` and `explain`: what is served, and who would get what.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use serde_json::{Value, json};

use super::said::Said;
use super::shown::{bytes, list, number, text};
use super::whose::Whose;
use crate::cli::client::Told;
use crate::cli::output::{Mood, Paint};
use crate::config::explained;
use crate::durations::age;

/// Listeners, pools, backends.
pub(super) fn status(whose: Whose) -> Result<(), Told> {
    let client = whose.client()?;
    let answer = client.ask("GET", "/status", &[])?;
    client.show(&answer, |answer| picture(answer, Paint::for_output()))
}

/// Whether clients may be sent to this machine: where they may not, that is the failure.
pub(super) fn ready(whose: Whose, listener: Option<&str>) -> Result<(), Told> {
    let client = whose.client()?;
    let query: Vec<_> = listener.map(|name| ("listener", name)).into_iter().collect();
    let answer = client.ask("GET", "/readyz", &query)?;
    let why = answer.as_str().unwrap_or_default().trim_end();
    client.show(&json!({ "ready": true, "why": why }), |answer| format!("ready: {}", text(answer, "why")))
}

/// Which backend a client would get.
pub(super) fn explain(
    whose: Whose,
    listener: &str,
    address: &str,
    backend: Option<&str>,
    said: &Said,
) -> Result<(), Told> {
    let client = whose.client()?;
    let address = &address_of(address);
    let mut query = vec![("listener", listener), ("client", address)];
    query.extend(backend.map(|backend| ("backend", backend)));
    query.extend(said.query());
    let answer = client.ask("GET", "/explain", &query)?;
    client.show(&answer, |answer| explanation(answer, Paint::for_output()))
}

/// The address of a client that was named: the first that this host knows for the name. What it does not know is complained of
/// as it was written.
fn address_of(client: &str) -> String {
    let is_address = client.parse::<IpAddr>().is_ok() || client.parse::<SocketAddr>().is_ok();
    let with_port = client.to_socket_addrs().ok().and_then(|mut all| all.next()).map(|one| one.to_string());
    let name = || (client, 0).to_socket_addrs().ok()?.next().map(|one| one.ip().to_string());
    if is_address { client.to_owned() } else { with_port.or_else(name).unwrap_or_else(|| client.to_owned()) }
}

fn picture(status: &Value, paint: Paint) -> String {
    let config = &status["config"];
    let mut out = format!(
        "evenkeel {}, {}, up for {}, configuration {}, file {}\n",
        text(status, "version"),
        text(status, "phase"),
        age(number(status, "uptime_s")),
        number(config, "generation"),
        text(config, "number"),
    );
    // One is where it was looked for.
    if let files @ [_, _, ..] = list(config, "files") {
        let (names, more) = files.split_at(files.len().min(FILES_SHOWN));
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        let _ = writeln!(out, "from {}{more}", names.join(", "));
    }
    let by = text(&status["withdrawn"], "by");
    if !by.is_empty() {
        let told = format!(
            "Withdrawn by {by}: /readyz says 503, so that nobody is sent here; evenkeel announce ends it"
        );
        out.push_str(&paint.paint(Mood::Doubtful, told));
        out.push('\n');
    }
    let last = &config["last_reload"];
    if text(last, "result") == "refused" {
        let told = format!(
            "The last reload, {} ago, was refused; what was served before goes on: evenkeel check",
            age(number(last, "seconds_ago"))
        );
        out.push_str(&paint.paint(Mood::Bad, told));
        out.push('\n');
    }
    for file in list(status, "network_files").iter().filter(|file| !file["failure"].is_null()) {
        let why = text(file, "failure").lines().next().unwrap_or_default();
        let told = format!(
            "{} is refused since {}, and what it said before goes on ({} networks): {why}",
            text(file, "path"),
            age(number(file, "failed_s")),
            number(file, "networks")
        );
        out.push_str(&paint.paint(Mood::Bad, told));
        out.push('\n');
    }
    let mut rows =
        vec![["LISTENER", "PROTOCOL", "ADDRESS", "POOL", "ACTIVE", "BEGUN", "IN", "OUT"].map(str::to_owned)];
    for listener in list(status, "listeners") {
        let addresses = list(listener, "addresses");
        let first = addresses.first().and_then(Value::as_str).unwrap_or("");
        let more = if addresses.len() > 1 { format!(" +{}", addresses.len() - 1) } else { String::new() };
        rows.push([
            text(listener, "name").to_owned(),
            text(listener, "protocol").to_owned(),
            format!("{first}{more}"),
            pools_of(listener),
            number(listener, "active").to_string(),
            number(listener, "begun").to_string(),
            bytes(number(listener, "to_backend")),
            bytes(number(listener, "to_client")),
        ]);
    }
    out.push('\n');
    out.push_str(&explained(&rows, |row, _, cell| headed(paint, row, cell)));
    for pool in list(status, "pools") {
        out.push('\n');
        out.push_str(&pool_picture(pool, paint));
    }
    out
}

/// Its pool, and to how many others its routes lead.
fn pools_of(listener: &Value) -> String {
    let own = Some(text(listener, "pool")).filter(|own| !own.is_empty());
    let mut pools: Vec<&str> = own.into_iter().collect();
    for route in list(listener, "routes").iter().map(|route| text(route, "pool")) {
        if !pools.contains(&route) {
            pools.push(route);
        }
    }
    match &pools[..] {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first, others @ ..] => format!("{first} +{}", others.len()),
    }
}

fn pool_picture(pool: &Value, paint: Paint) -> String {
    let (eligible, backends) = (number(pool, "eligible"), list(pool, "backends"));
    let waiting = number(pool, "waiting");
    let mut out = format!(
        "pool {}: {}, {eligible} of {} eligible, {} sessions{}\n",
        text(pool, "name"),
        primary_told(pool) + text(pool, "balance"),
        backends.len(),
        number(pool, "sessions"),
        if waiting > 0 { format!(", {waiting} waiting") } else { String::new() },
    );
    if let Some(table) = pool.get("table").and_then(Value::as_str) {
        out.truncate(out.trim_end().len());
        let _ = writeln!(out, ", table {table}");
    }
    let head = ["BACKEND", "ADDRESS", "STATE", "ROLE", "LAG", "FOR", "WEIGHT", "ACTIVE", "FAILED", "WHY"];
    let mut rows = vec![head.map(str::to_owned)];
    for backend in backends {
        let (weight, file) = (number(backend, "weight"), number(backend, "file_weight"));
        let max = backend.get("max_sessions").and_then(Value::as_u64);
        rows.push([
            text(backend, "name").to_owned(),
            text(backend, "address").to_owned(),
            text(backend, "state").to_owned(),
            backend.get("role").and_then(Value::as_str).unwrap_or("-").to_owned(),
            backend
                .get("lag_s")
                .and_then(Value::as_f64)
                .map_or("-".to_owned(), |lag_s| format!("{lag_s:.1} s")),
            age(number(backend, "since_s")),
            if weight == file { weight.to_string() } else { format!("{weight} (file {file})") },
            max.map_or_else(
                || number(backend, "active").to_string(),
                |max| format!("{}/{max}", number(backend, "active")),
            ),
            number(backend, "connect_failures").to_string(),
            text(backend, "cause").to_owned(),
        ]);
    }
    for backend in list(pool, "leaving") {
        let active = number(backend, "active").to_string();
        let (name, since, why) =
            (text(backend, "name"), age(number(backend, "since_s")), text(backend, "cause"));
        let cells = [name, "", "leaving", "-", "-", &since, "", &active, "", why];
        rows.push(cells.map(str::to_owned));
    }
    let state = |row: usize| rows.get(row).map_or("", |row| row[2].as_str());
    let painted = |row: usize, column: usize, cell: String| match column {
        2 if row > 0 => paint.paint(mood_of(state(row)), cell),
        _ => headed(paint, row, cell),
    };
    let sources = list(pool, "sources");
    if !sources.is_empty() {
        out.push_str(&super::sources::table(sources));
        out.push('\n');
    }
    out.push_str(&if pool.get("primary").is_some() {
        explained(&rows, painted)
    } else {
        // Nobody tells roles there.
        let without = |[name, address, state, _, _, rest @ ..]: &[String; 10]| {
            let [span, weight, active, failed, why] = rest.clone();
            [name.clone(), address.clone(), state.clone(), span, weight, active, failed, why]
        };
        explained(&rows.iter().map(without).collect::<Vec<_>>(), painted)
    });
    out.push_str(&at_run_time(pool));
    out
}

/// What differs from the file, and how that ends.
fn at_run_time(pool: &Value) -> String {
    let changes = list(pool, "at_run_time");
    let mut out = String::new();
    if !changes.is_empty() {
        let _ = writeln!(out, "changed at run time; evenkeel reset {} takes it back:", text(pool, "name"));
    }
    for change in changes.iter().take(CHANGES_SHOWN) {
        let (told, by, ago) = (text(change, "told"), text(change, "by"), age(number(change, "since_s")));
        let _ = writeln!(out, "{told}, by {by}, {ago} ago");
    }
    if changes.len() > CHANGES_SHOWN {
        let _ = writeln!(out, "and {} more: evenkeel diff", changes.len() - CHANGES_SHOWN);
    }
    out
}

/// Who is the primary, and since when, or that nobody is; nothing of a pool where nobody tells.
fn primary_told(pool: &Value) -> String {
    let since = age(number(pool, "primary_since_s"));
    match pool.get("primary") {
        None => String::new(),
        Some(Value::String(name)) => format!("{name} is the primary for {since}, "),
        Some(_) => format!("nobody is the primary for {since}, "),
    }
}

/// The first row is the head.
fn headed(paint: Paint, row: usize, cell: String) -> String {
    if row == 0 { paint.paint(Mood::Head, cell) } else { cell }
}

fn mood_of(state: &str) -> Mood {
    match state {
        "up" | "standby" => Mood::Good,
        "down" | "marked down" | "stale primary" | "contested" => Mood::Bad,
        _ => Mood::Doubtful,
    }
}

fn explanation(answer: &Value, paint: Paint) -> String {
    let (client, pool) = (text(answer, "client"), text(answer, "pool"));
    let client = client.strip_suffix(":0").unwrap_or(client);
    let outcome = match text(answer, "outcome") {
        "no_route" => {
            let listener = text(answer, "listener");
            return format!(
                "{client} would be refused (no_route): no route of {listener} is for it, and it has no other pool\n"
            );
        }
        "backend" => format!("would get {}", text(answer, "backend")),
        "chance" => "would get one of these by chance".to_owned(),
        "waits" => "would wait in line: no eligible backend has room".to_owned(),
        "queue_full" => {
            "would be refused (queue_full): no eligible backend has room, nor has the line".to_owned()
        }
        "denied" => "would be refused (denied): the listener's `allow` and `deny` keep it out".to_owned(),
        limit if limit.starts_with("limit_") => format!("would be refused ({limit})"),
        "full" => "would be refused (backends_full): every eligible backend is full".to_owned(),
        _ => "would be refused (no_backend): no backend is eligible".to_owned(),
    };
    let by = answer["route"].as_u64().map_or(String::new(), |route| format!(" by route {route}"));
    let mut out = format!("{client} {outcome}; pool {pool}{by}, {}\n", text(answer, "balance"));
    if let Some(access) = answer["access"].as_str() {
        let _ = writeln!(out, "`allow` and `deny`: {access}");
    }
    out.push('\n');
    let mut rows = vec![["BACKEND", "CHANCE", "WHY"].map(str::to_owned)];
    for backend in list(answer, "backends") {
        let chance = backend.get("chance").and_then(Value::as_f64).unwrap_or(0.0);
        rows.push([
            text(backend, "name").to_owned(),
            format!("{:.0} %", chance * 100.0),
            text(backend, "why").to_owned(),
        ]);
    }
    for absent in list(answer, "absent") {
        rows.push([text(absent, "name").to_owned(), "-".to_owned(), text(absent, "why").to_owned()]);
    }
    let chance = |row: usize| rows.get(row).is_some_and(|row| row[1] != "0 %" && row[1] != "-");
    out.push_str(&explained(&rows, |row, column, cell| match column {
        1 if row > 0 && chance(row) => paint.paint(Mood::Good, cell),
        _ => headed(paint, row, cell),
    }));
    out
}

/// Changes of a pool that are shown of many.
const CHANGES_SHOWN: usize = 10;
/// Names of files that are shown of many.
const FILES_SHOWN: usize = 10;
