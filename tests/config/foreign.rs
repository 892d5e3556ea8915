//! What is told of words that people bring from HAProxy, nginx, Traefik and Envoy: one line for each, as it is answered.

use evenkeel::config::read;

/// Where a word is written, and the file that it is written in.
fn file(place: &str, word: &str) -> String {
    let rest = "listeners: { l: { bind: 80, backends: [10.0.0.1:80] } }";
    match place {
        "top" => format!("\"{word}\": x\n{rest}\n"),
        "listener" => format!("listeners: {{ l: {{ bind: 80, backends: [10.0.0.1:80], \"{word}\": x }} }}"),
        "timeouts" => {
            format!(
                "listeners: {{ l: {{ bind: 80, backends: [10.0.0.1:80], timeouts: {{ \"{word}\": 1m }} }} }}"
            )
        }
        "pool" => format!("{rest}\npools: {{ p: {{ backends: [10.0.0.1:80], \"{word}\": x }} }}"),
        "health" => {
            format!("{rest}\npools: {{ p: {{ backends: [10.0.0.1:80], health: {{ \"{word}\": x }} }} }}")
        }
        "backend" => {
            format!("{rest}\npools: {{ p: {{ backends: [{{ address: 10.0.0.1:80, \"{word}\": x }}] }} }}")
        }
        "item" => format!("listeners: {{ l: {{ bind: 80, backends: [\"{word}\"] }} }}"),
        key => {
            let (key, value) = (key.trim_end_matches(':'), format!("\"{word}\""));
            match key {
                "protocol" => {
                    format!("listeners: {{ l: {{ bind: 80, backends: [10.0.0.1:80], protocol: {value} }} }}")
                }
                "level" => format!("{rest}\nlog: {{ level: {value} }}"),
                "check" => format!(
                    "{rest}\npools: {{ p: {{ backends: [10.0.0.1:80], health: {{ check: {value} }} }} }}"
                ),
                key => format!("{rest}\npools: {{ p: {{ backends: [10.0.0.1:80], {key}: {value} }} }}"),
            }
        }
    }
}

#[test]
fn each_word_of_others_is_answered_in_its_own_terms() {
    let (mut wrong, mut checked) = (String::new(), 0);
    for line in CASES.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let mut parts = line.splitn(3, " | ");
        let (place, word, expected) =
            (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap_or_default());
        let told = match read("f", file(place, word).as_bytes()) {
            Ok(_) => "nothing".to_owned(),
            Err(mistakes) => {
                let messages = mistakes.list().iter().map(|mistake| mistake.message.clone());
                messages.collect::<Vec<_>>().join(" + ")
            }
        };
        if told != expected {
            wrong += &format!("{place} | {word} | {told}\n");
        }
        checked += 1;
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(checked >= 120, "only {checked} words");
}

const CASES: &str = include_str!("foreign.txt");
