//! What users get wrong, and what they are told: place, message and hint of each, and the whole text of a few.

use evenkeel::config::read;

#[test]
fn all_mistakes_of_a_file_are_told_at_once_with_their_lines() {
    let mistakes = read("evenkeel.yaml", SEVERAL.as_bytes()).unwrap_err();
    assert_eq!(mistakes.to_string(), SEVERAL_TOLD);
}

#[test]
fn each_mistake_is_told_where_it_stands() {
    let (mut wrong, mut checked) = (String::new(), 0);
    for case in CASES.split("\n====\n") {
        let (text, expected) = case.split_once("\n----\n").expect("a case is a file and what is told");
        let told = match read("f", text.as_bytes()) {
            Ok(_) => "nothing".to_owned(),
            Err(mistakes) => {
                let line = |mistake: &evenkeel::config::Mistake| {
                    let hint = mistake.hint.as_ref().map_or(String::new(), |hint| format!(" | {hint}"));
                    format!("{}:{} {}{hint}", mistake.line, mistake.column, mistake.message)
                };
                mistakes.list().iter().map(line).collect::<Vec<_>>().join("\n")
            }
        };
        if told != expected.trim_end() {
            wrong += &format!("{text}\n----\n{told}\n====\n");
        }
        checked += 1;
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(checked > 120, "only {checked} cases");
}

const CASES: &str = include_str!("mistakes.txt");

const SEVERAL: &str = "\
listeners:
  redis:
    bind: 6379
    backends:
      - address: 10.0.0.1:6379
        wieght: 2
      - [::1]
pools:
  redis: { backends: [10.0.0.4:6379], health: { interval: 30 } }
";

const SEVERAL_TOLD: &str = r#"error: unknown key `wieght` in a backend; did you mean `weight`?
 --> evenkeel.yaml:6:9
6 |         wieght: 2
  |         ^^^^^^

error: `address` must be ADDRESS or ADDRESS:PORT
 --> evenkeel.yaml:7:9
7 |       - [::1]
  |         ^
  = hint: an IPv6 address needs quotes in YAML, with its brackets inside: "[::1]:5432"

error: the pool `redis` has the name of a listener with a pool of its own, on line 2
 --> evenkeel.yaml:9:3
9 |   redis: { backends: [10.0.0.4:6379], health: { interval: 30 } }
  |   ^^^^^

error: `interval` must be a duration from 100ms to 1h; `30` has no unit; write `30s` for seconds (units: ms, s, m, h, d)
 --> evenkeel.yaml:9:59
9 |   redis: { backends: [10.0.0.4:6379], health: { interval: 30 } }
  |                                                           ^^

evenkeel.yaml: 4 mistakes; the file was not used"#;
