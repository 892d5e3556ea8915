//! Tests of the slices, on what a real kube-apiserver (1.20) said while a pod got ready, was deleted, failed its probe, and its
//! service went.

use super::*;

const LIST: &[u8] = include_bytes!("../../../tests/kubernetes/list.json");
const WATCH: &[u8] = include_bytes!("../../../tests/kubernetes/watch.json");
const GONE_LINE: &[u8] = include_bytes!("../../../tests/kubernetes/gone.json");

fn postgres() -> Option<KubernetesPort> {
    Some(KubernetesPort::Name("postgres".into()))
}

fn shown(slices: &Slices) -> Vec<String> {
    let listed = slices.listed("db/pg", postgres().as_ref()).unwrap();
    let one = |one: Listed| {
        let port = one.port.unwrap_or(0);
        let drains = one.drains.map(|why| format!(" {why}")).unwrap_or_default();
        format!("{} {}:{port}{drains}", one.name.unwrap_or_default(), one.ip)
    };
    listed.into_iter().map(one).collect()
}

#[test]
fn a_recorded_list_and_its_watch_are_followed() {
    let mut slices = Slices::of_list(LIST).unwrap();
    assert_eq!(slices.version(), "208");
    assert_eq!(
        shown(&slices),
        ["pg-0 10.1.0.10:5432", "pg-1 10.1.0.11:5432", "pg-2 10.1.0.12:5432 not ready (kubernetes)"]
    );
    let expected: [&[&str]; 6] = [
        &["pg-0 10.1.0.10:5432", "pg-1 10.1.0.11:5432", "pg-2 10.1.0.12:5432"],
        &["pg-0 10.1.0.10:5432 terminating (kubernetes)", "pg-1 10.1.0.11:5432", "pg-2 10.1.0.12:5432"],
        &[
            "pg-0 10.1.0.10:5432 terminating (kubernetes)",
            "pg-1 10.1.0.11:5432 not ready (kubernetes)",
            "pg-2 10.1.0.12:5432",
        ],
        &[
            "pg-0 10.1.0.10:5432 terminating (kubernetes)",
            "pg-1 10.1.0.11:5432 not ready (kubernetes)",
            "pg-2 10.1.0.12:5432",
        ],
        &["pg-1 10.1.0.11:5432 not ready (kubernetes)", "pg-2 10.1.0.12:5432"],
        &["pg-1 10.1.0.11:5432 not ready (kubernetes)", "pg-2 10.1.0.12:5432"],
    ];
    let lines: Vec<&[u8]> = WATCH.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), expected.len());
    for (line, expected) in lines.iter().zip(expected) {
        let event = slices.apply(line).unwrap();
        assert_eq!(event == Event::Same, line.starts_with(b"{\"type\":\"BOOKMARK\""));
        assert_eq!(shown(&slices), expected);
    }
    assert_eq!(slices.version(), "221", "the bookmark says where to go on");
}

#[test]
fn a_version_that_is_gone_means_to_list_anew_and_changes_nothing() {
    let mut slices = Slices::of_list(LIST).unwrap();
    let before = slices.clone();
    assert_eq!(slices.apply(GONE_LINE), Ok(Event::Expired));
    assert_eq!(slices, before);
    let told =
        slices.apply(br#"{"type":"ERROR","object":{"code":500,"message":"etcd is away"}}"#).unwrap_err();
    assert_eq!(told, "the watch ended: etcd is away");
}

fn slice(name: &str, endpoints: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}","resourceVersion":"9"}},"ports":[{{"name":"postgres","port":5432}}],"endpoints":[{endpoints}]}}"#
    )
}

fn pod(name: &str, ip: &str, conditions: &str) -> String {
    format!(
        r#"{{"addresses":["{ip}"],"conditions":{{{conditions}}},"targetRef":{{"kind":"Pod","name":"{name}"}}}}"#
    )
}

fn list(slices: &[String]) -> Slices {
    let body = format!(r#"{{"metadata":{{"resourceVersion":"1"}},"items":[{}]}}"#, slices.join(","));
    Slices::of_list(body.as_bytes()).unwrap()
}

#[test]
fn slices_are_one_set_and_a_pod_in_two_of_them_is_one() {
    let a = slice("a", &[pod("pg-0", "10.1.0.1", ""), pod("pg-1", "10.1.0.2", r#""ready":false"#)].join(","));
    let b = slice("b", &pod("pg-1", "10.1.0.2", r#""ready":true"#));
    let six = slice("c", &pod("pg-0", "2001:db8::1", ""));
    for order in [[&a, &b, &six], [&six, &b, &a]] {
        let slices = list(&order.map(Clone::clone));
        assert_eq!(shown(&slices), ["pg-0 10.1.0.1:5432", "pg-1 10.1.0.2:5432"]);
    }
    let mut slices = list(&[a, b.clone()]);
    let gone = format!(r#"{{"type":"DELETED","object":{b}}}"#);
    assert_eq!(slices.apply(gone.as_bytes()), Ok(Event::Changed));
    assert_eq!(shown(&slices), ["pg-0 10.1.0.1:5432", "pg-1 10.1.0.2:5432 not ready (kubernetes)"]);
}

#[test]
fn none_ready_is_nobody_and_all_terminating_is_meant() {
    let not_ready = pod("pg-0", "10.1.0.1", r#""ready":false"#);
    let slices = list(&[slice("a", &not_ready)]);
    assert!(shown(&slices).is_empty() && !slices.is_empty());
    let ending = pod("pg-0", "10.1.0.1", r#""ready":false,"serving":true,"terminating":true"#);
    assert_eq!(shown(&list(&[slice("a", &ending)])), ["pg-0 10.1.0.1:5432 terminating (kubernetes)"]);
    assert!(list(&[slice("a", "")]).is_empty() && list(&[]).is_empty());
}

#[test]
fn the_port_is_the_only_one_or_the_one_that_is_said() {
    let slices = Slices::of_list(LIST).unwrap();
    let port = |slices: &Slices, port: Option<KubernetesPort>| {
        slices.listed("db/pg", port.as_ref()).map(|all| all[0].port.unwrap_or(0))
    };
    assert_eq!(port(&slices, Some(KubernetesPort::Number(9_187))), Ok(9_187));
    assert_eq!(port(&list(&[slice("a", &pod("pg-0", "10.1.0.1", ""))]), None), Ok(5_432));
    assert_eq!(
        port(&slices, None).unwrap_err(),
        "the pods of db/pg have the ports postgres (5432), metrics (9187); say which with `port`"
    );
    assert_eq!(
        port(&slices, Some(KubernetesPort::Name("pg".into()))).unwrap_err(),
        "the pods of db/pg have the ports postgres (5432), metrics (9187), and not `pg`"
    );
    assert!(port(&slices, Some(KubernetesPort::Number(80))).unwrap_err().ends_with("not the service's)"));
    let bare = slice("a", &pod("pg-0", "10.1.0.1", "")).replace(r#"{"name":"postgres","port":5432}"#, "");
    assert_eq!(port(&list(&[bare]), Some(KubernetesPort::Number(7))), Ok(7));
}

#[test]
fn one_bad_slice_spoils_the_answer() {
    let told = |body: &str| Slices::of_list(body.as_bytes()).unwrap_err();
    assert!(told("{").starts_with("its answer is no JSON"));
    assert_eq!(told("{}"), "its answer has no resourceVersion");
    let host = slice("a", &pod("pg-0", "db.example.org", ""));
    assert_eq!(
        told(&format!(r#"{{"metadata":{{"resourceVersion":"1"}},"items":[{host}]}}"#)),
        "slice a has `db.example.org`, which is no IP address"
    );
}

#[test]
fn what_was_cut_is_never_a_list_or_an_event() {
    for end in 0..LIST.trim_ascii_end().len() {
        assert!(Slices::of_list(&LIST[..end]).is_err(), "{end}");
    }
    let line = WATCH.split(|byte| *byte == b'\n').next().unwrap();
    let before = Slices::of_list(LIST).unwrap();
    for end in 0..line.len() {
        let mut slices = before.clone();
        assert!(slices.apply(&line[..end]).is_err(), "{end}");
        assert_eq!(slices, before, "{end}");
    }
}
