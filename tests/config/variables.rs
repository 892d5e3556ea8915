//! Variables of the environment in values: what a value means is decided when they are in it; they bring no structure; what is
//! wrong is told at its place with what it became, and what is secret by its name or its place is shown nowhere.

use std::ffi::OsString;

use evenkeel::config::settings::SecretSource;
use evenkeel::config::{Configuration, Mistakes, Reads, Variable, read, read_with};

const READS: Reads = Reads {
    secret: |source: &SecretSource| Err(format!("{source:?}")),
    variable,
    networks: |_| Ok(Vec::new()),
};

fn variable(name: &str) -> Option<OsString> {
    Some(match name {
        "PORT" => "5432".into(),
        "HOST" => "10.0.0.1".into(),
        "IDLE" => "5m".into(),
        "WEIGHT" => "seven".into(),
        "STRUCTURE" => "{ address: 10.0.0.1:1 }\n- 10.0.0.2".into(),
        "DB_TOKEN" => "hunter2".into(),
        "NOTHING" => "".into(),
        _ => return None,
    })
}

fn configuration(text: &str) -> Result<Configuration, Mistakes> {
    read_with("f", text.as_bytes(), READS)
}

#[track_caller]
#[allow(clippy::unwrap_used)]
fn mistakes(text: &str) -> String {
    configuration(text).unwrap_err().to_string()
}

const FILE: &str = "\
listeners:
  l: &l
    bind: ${PORT}
    timeouts: { idle: \"${IDLE}\" }
    backends: ['${HOST}:${PORT}', { address: 10.0.0.2:80, weight: \"${W:-7}\", name: 'a$${b' }]
  m: { <<: *l, bind: '1${PORT}', backends: [10.0.0.9:1] }
";

#[test]
fn a_value_means_what_it_would_mean_if_it_had_been_written_so() {
    let plain = "\
listeners:
  l: { bind: 5432, timeouts: { idle: 5m }, backends: ['10.0.0.1:5432', { address: 10.0.0.2:80, weight: 7, name: 'a$${b' }] }
  m: { bind: 15432, timeouts: { idle: 5m }, backends: [10.0.0.9:1] }
";
    let found = configuration(FILE).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let written = configuration(plain).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(found.settings, written.settings);
    assert_eq!(found.settings.pools[0].backends[1].name, "a${b");
    // What is handed to the next process means the same where nothing is set.
    let nobody = Reads { variable: |_| None, ..READS };
    let again =
        read_with("f", found.text.as_bytes(), nobody).unwrap_or_else(|told| panic!("{told}\n{}", found.text));
    assert_eq!((again.settings, again.variables.len()), (found.settings, 0));
    // A file without any is handed on as it stands.
    assert_eq!(written.text, plain);
}

#[test]
fn which_were_used_and_where_is_told() {
    let used = configuration(FILE).unwrap().variables;
    let row = |one: &Variable| {
        let value = one.value.clone().unwrap_or_else(|| "hidden".to_owned());
        format!(
            "{}:{} {} {value}{}",
            one.line,
            one.column,
            one.name,
            if one.is_default { " default" } else { "" }
        )
    };
    let rows: Vec<String> = used.iter().map(row).collect();
    assert_eq!(
        rows,
        [
            "3:11 PORT 5432",
            "4:23 IDLE 5m",
            "5:16 HOST 10.0.0.1",
            "5:16 PORT 5432",
            "5:67 W 7 default",
            "6:22 PORT 5432"
        ]
    );
}

#[test]
fn what_a_variable_holds_stays_one_scalar() {
    let told = mistakes("listeners: { l: { bind: 80, backends: ['${STRUCTURE}'] } }");
    assert!(told.contains("f: 1 mistake;"), "{told}");
    let told = mistakes("listeners: { l: { bind: 80, backends: '${STRUCTURE}' } }");
    assert!(told.contains("`backends` must be a list") && told.contains("f: 1 mistake;"), "{told}");
    // Set to nothing is nothing, as if nothing stood there.
    let told = mistakes("listeners: { l: { bind: 80, backends: [10.0.0.1:1] } }\nworkers: ${NOTHING}");
    assert!(told.contains("`workers` has no value"), "{told}");
    // Where YAML takes the brace for its own, the message says so.
    let told = mistakes("listeners: { l: { bind: ${PORT}, backends: [10.0.0.1:1] } }");
    assert!(told.contains("a variable needs quotes"), "{told}");
}

#[test]
fn a_mistake_shows_the_text_and_what_it_became() {
    let told = mistakes(
        "listeners:\n  l:\n    bind: 80\n    backends: [{ address: 10.0.0.1:1, weight: '${WEIGHT}' }]\n",
    );
    assert_eq!(
        told,
        "error: `weight` must be a whole number from 0 to 256, not `seven`\n \
         --> f:4:47\n4 |     backends: [{ address: 10.0.0.1:1, weight: '${WEIGHT}' }]\n  \
         |                                               ^^^^^^^^^^^\n  \
         = note: `${WEIGHT}` is `seven` in the environment\n\nf: 1 mistake; the file was not used"
    );
    let told = mistakes("listeners: { l: { bind: '${PORT}${B:-x}', backends: [10.0.0.1:1] } }");
    assert!(
        told.contains(
            "= note: `${PORT}` is `5432` in the environment; `${B}` is not set, and its default is `x`"
        ),
        "{told}"
    );
    // Where an alias repeats it as well.
    let told =
        mistakes("listeners: { l: { bind: 80, backlog: &a '${WEIGHT}', backends: [10.0.0.1:1], role: *a } }");
    assert_eq!(told.matches("= note: `${WEIGHT}` is `seven`").count(), 2, "{told}");
}

#[test]
fn one_that_is_not_set_is_told_with_what_to_do_and_nothing_else_is() {
    let told = mistakes("listeners: { l: { bind: '${DOOR}', backends: [10.0.0.1:1], '${PORT}': 1 } }");
    assert!(
        told.contains("`${DOOR}` is not set in the environment of this process, and has no default"),
        "{told}"
    );
    assert!(told.contains("write `${DOOR:-VALUE}`, or set it: `Environment=`"), "{told}");
    assert!(told.contains("`${PORT}` stands in a key; variables are put into values only"), "{told}");
    assert!(told.contains("f: 2 mistakes"), "{told}");
    // Where nothing outside is read, none is set.
    let told =
        read("f", b"listeners: { l: { bind: '${PORT}', backends: [10.0.0.1:1] } }").unwrap_err().to_string();
    assert!(told.contains("is not set"), "{told}");
}

#[test]
fn what_is_secret_is_shown_nowhere() {
    let file = |weight: &str, password: &str| {
        format!(
            "listeners: {{ l: {{ bind: 80, backends: [{{ address: 10.0.0.1:1, weight: {weight} }}],\n\
             health: {{ check: {{ postgres: {{ user: u, password: {password} }} }} }} }} }}"
        )
    };
    let told = mistakes(&file("'${DB_TOKEN}'", "x"));
    assert!(!told.contains("hunter") && told.contains("`${DB_TOKEN}` is set in the environment"), "{told}");
    for password in ["'${DB_TOKEN}'", "'${DB_TOKEN}-${HOST}'", "'${P:-hunter2}'"] {
        let read = configuration(&file("1", password)).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert!(!read.text.contains("hunter"), "{}", read.text);
        assert!(read.variables.iter().all(|one| one.value.is_none()), "{:?}", read.variables);
        let told = mistakes(&file("x", password));
        assert!(!told.contains("hunter") && told.contains("`weight`"), "{told}");
    }
}

#[test]
fn they_have_a_limit() {
    let file = |uses: usize| {
        let networks = "'${HOST}',".repeat(uses);
        format!("listeners: {{ l: {{ bind: 80, backends: [10.0.0.1:1], deny: [{networks}] }} }}")
    };
    assert_eq!(configuration(&file(1_000)).unwrap().variables.len(), 1_000);
    let told = mistakes(&file(1_200));
    assert!(told.contains("more than 1000 variables") && told.contains("f: 1 mistake;"), "{told}");
}
