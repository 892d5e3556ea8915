//! Several files as one configuration: what is gathered, what stands twice, and that each mistake names its own file.

use std::ffi::OsString;

use evenkeel::config::settings::SecretSource;
use evenkeel::config::{Configuration, Mistakes, Reads, Text, read, read_files};

const READS: Reads = Reads {
    secret: |source: &SecretSource| Err(format!("{source:?}")),
    variable: |name: &str| (name == "PORT").then(|| OsString::from("5432")),
    networks,
};

fn networks(path: &str) -> Result<Vec<u8>, String> {
    Ok(match path {
        "/good" => b"# a comment\r\n10.0.0.0/8 ; one\n\n  192.0.2.1  # two\n2001:db8::/32".to_vec(),
        "/none" => b"# nobody\n".to_vec(),
        "/empty" => Vec::new(),
        "/wrong" => b"10.0.0.0/8\n10.1.2.3/8\n\tten\n".to_vec(),
        "/bytes" => b"10.0.0.0/8\n\xff\n".to_vec(),
        "/many" => "10.0.0.1\n".repeat(1_000_001).into_bytes(),
        other => return Err(format!("{other}: No such file")),
    })
}

fn joined(texts: &[&str]) -> Result<Configuration, Mistakes> {
    let names = ["a.yaml", "b.yaml", "c.yaml"];
    let files: Vec<Text<'_>> =
        names.iter().zip(texts).map(|(name, text)| Text { name, bytes: text.as_bytes() }).collect();
    read_files(&files, &[], READS)
}

#[track_caller]
#[allow(clippy::unwrap_used)]
fn told(texts: &[&str]) -> String {
    joined(texts).unwrap_err().to_string()
}

#[test]
fn listeners_and_pools_are_gathered_and_the_rest_stands_where_it_likes() {
    let files = [
        "admin: { socket: off }\nlisteners: { a: { bind: 80, pool: p } }\n",
        "# nothing but this\n",
        "pools: { p: { backends: ['10.0.0.1:${PORT}'] } }\nlisteners: { b: { bind: 81, backends: [10.0.0.2:1] } }\n\
         defaults: { pool: { balance: first } }\n",
    ];
    let found = joined(&files).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let one = "admin: { socket: off }\nlisteners: { a: { bind: 80, pool: p }, b: { bind: 81, backends: [10.0.0.2:1] } }\n\
               pools: { p: { backends: ['10.0.0.1:5432'] } }\ndefaults: { pool: { balance: first } }\n";
    let mut expected = read("one", one.as_bytes()).unwrap();
    // Pools come in the order of the files, in which their places are counted.
    expected.pools.reverse();
    expected.listeners.iter_mut().for_each(|listener| listener.pool = 1 - listener.pool);
    assert_eq!(found.settings, expected);
    assert_eq!((&*found.variables[0].file, found.variables[0].line), ("c.yaml", 1));
    // The next process is told one text.
    let mut carried = read("carried", found.text.as_bytes()).unwrap();
    carried.pools.reverse();
    carried.listeners.iter_mut().for_each(|listener| listener.pool = 1 - listener.pool);
    assert_eq!(carried, found.settings);
}

#[test]
fn what_stands_twice_is_told_with_both_places() {
    let text = told(&[
        "admin: { http: off }\nlisteners:\n  a: { bind: 80, backends: [10.0.0.1:1] }\npools: {}\n",
        "\nadmin: { http: off }\nlisteners:\n  a: { bind: 81, backends: [10.0.0.1:1] }\n  b: { bind: 80, backends: [10.0.0.1:1] }\n",
    ]);
    for expected in [
        "error: `admin` stands in two files; first on line 1 of a.yaml\n --> b.yaml:2:1\n2 | admin: { http: off }\n",
        "only `listeners` and `pools` are gathered from several files",
        "error: the listener `a` is there already, on line 3 of a.yaml\n --> b.yaml:4:3\n",
        "error: port 80 is bound by the listener `a` already, on line 3 of a.yaml\n --> b.yaml:5:14\n",
        "a.yaml and 1 more file: 3 mistakes; the files were not used",
    ] {
        assert!(text.contains(expected), "{expected}\n---\n{text}");
    }
}

#[test]
fn each_mistake_names_its_file_and_shows_its_line() {
    let text = told(&[
        "listeners: { a: { bind: 80, pool: p } }\n",
        "pools:\n  p: { backends: [10.0.0.1:1, 10.0.0.1:1], wieght: 1 }\n",
        "- a\n",
    ]);
    assert!(
        text.contains(" --> b.yaml:2:") && text.contains("is in the pool already, on line 2 of b.yaml"),
        "{text}"
    );
    assert!(
        text.contains("error: a file is a map of keys, not a list\n --> c.yaml:1:1\n1 | - a\n"),
        "{text}"
    );
    assert!(text.ends_with("a.yaml and 2 more files: 3 mistakes; the files were not used"), "{text}");
}

#[test]
fn a_file_that_is_half_written_is_a_mistake_and_no_other_follows_from_it() {
    let good = "listeners: { a: { bind: 80, pool: p } }\n";
    for (half, expected) in [
        ("", "the file is empty\n --> b.yaml\n"),
        (" \n\n", "the file is empty\n --> b.yaml\n"),
        ("pools: { p: { backends: [10.0", "`[` is not closed\n --> b.yaml:1:25"),
        ("pools:\n  p:\n    backends: [10.0.0.1:1]\n    hea", "a word alone where a key must stand"),
    ] {
        let text = told(&[good, half]);
        let others = if half.trim().is_empty() { 1 } else { 0 };
        assert!(text.contains(expected), "{text}");
        assert_eq!(text.matches("error:").count(), 1 + others, "{text}");
    }
    // Comments alone are meant.
    assert!(told(&[good, "# nothing yet\n"]).contains("there is no pool `p`"));
}

#[test]
fn all_files_together_have_one_size() {
    let most = evenkeel::config::BYTES_MAX;
    let fill = |bytes: usize| {
        format!("listeners: {{ a: {{ bind: 80, backends: [10.0.0.1:1] }} }}\n#{}", "x".repeat(bytes))
    };
    let (half, rest) = (fill(most / 2), format!("#{}", "x".repeat(most / 2 - 100)));
    assert!(joined(&[&half, &rest]).is_ok());
    let text = told(&[&half, &fill(most / 2), "# small\n"]);
    assert!(
        text.contains("too long; all files together may have") && text.contains(" --> b.yaml\n"),
        "{text}"
    );
    assert!(!text.contains('x'), "only the place");
}

#[test]
fn files_of_networks_stand_in_lists_and_alone() {
    let text = "listeners:\n  a: { bind: 80, backends: [10.0.0.1:1], allow: { file: /good }, deny: [192.0.2.0/24, { file: /none }, { file: /good }] }\n\
                \x20 b: { bind: 81, backends: [10.0.0.1:1], accept_proxy: { file: /good } }\n";
    let settings = joined(&[text]).unwrap_or_else(|mistakes| panic!("{mistakes}")).settings;
    let [a, b] = &settings.listeners[..] else { panic!() };
    assert_eq!((a.allow.len(), a.deny.len(), a.files.allow[0].list.len()), (0, 1, 3));
    let lines = |ip: &str| a.files.allow[0].list.longest(ip.parse().unwrap()).map(|(_, line)| line);
    assert_eq!((lines("10.1.1.1"), lines("192.0.2.1"), lines("2001:db8::1")), (Some(2), Some(4), Some(5)));
    let paths: Vec<&str> = a.files.deny.iter().map(|file| &*file.path).collect();
    assert_eq!(paths, ["/none", "/good"]);
    assert!(std::sync::Arc::ptr_eq(&a.files.allow[0].list, &b.files.accept_proxy[0].list), "read once");
}

#[test]
fn files_of_networks_are_described() {
    let row = |lists: &str| {
        let text = format!("listeners: {{ door: {{ bind: 80, backends: ['10.0.0.1:80'], {lists} }} }}");
        let text = evenkeel::config::describe(&joined(&[&text]).unwrap().settings);
        let row = text.lines().skip_while(|line| !line.contains("ALLOW")).nth(1).unwrap_or_default();
        row.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("allow: { file: /good }"), "3 networks (1 file) none");
    assert_eq!(row("deny: [{ file: /good }, 10.0.0.9]"), "all others 4 networks (1 file)");
    assert_eq!(row("allow: 10.0.0.0/8"), "10.0.0.0/8 none");
}

#[test]
fn what_is_wrong_in_a_file_of_networks_is_told_in_that_file() {
    let with = |file: &str| {
        told(&[&format!(
            "listeners: {{ a: {{ bind: 80, backends: [10.0.0.1:1], deny: [{{ file: {file} }}], allow: {{ file: {file} }} }} }}"
        )])
    };
    let text = with("/wrong");
    for expected in [
        "`10.1.2.3/8` has bits set behind its prefix\n --> /wrong:2:1\n2 | 10.1.2.3/8\n",
        "hint: write 10.0.0.0/8 for the network, 10.1.2.3 for the one address",
        "a line is a network like 10.0.0.0/8, or an address; `ten` is not an IP address\n --> /wrong:3:2\n3 |  ten\n",
        "a.yaml and 1 more file: 2 mistakes",
    ] {
        assert!(text.contains(expected), "{expected}\n---\n{text}");
    }
    assert!(with("/empty").contains("the file is empty\n --> /empty\n"), "{}", with("/empty"));
    assert!(with("/bytes").contains("byte 0xff is not UTF-8\n --> /bytes:2:1"), "{}", with("/bytes"));
    assert!(with("/many").contains("--> /many:1000001:1"), "{}", with("/many"));
    assert!(
        with("/nowhere").contains("`allow`: /nowhere cannot be read: /nowhere: No such file"),
        "{}",
        with("/nowhere")
    );
    assert!(with("relative").contains("`file` must be a path from the root, not `relative`"));
    let text =
        told(&["listeners: { a: { bind: 80, backends: [10.0.0.1:1], deny: { fil: /good }, allow: [{}] } }"]);
    assert!(text.contains("unknown key `fil` in a file of networks; did you mean `file`?"), "{text}");
}
