//! List of backends (file_sd, http_sd): what a file or a URL gives beside the configuration, as YAML, as JSON, or as plain
//! lines `ADDRESS:PORT`.
//!
//! Pure. Must stay true: any bytes are answered in bounded time and memory; one bad entry spoils the list, and is told with its
//! line and column.

use super::check::{self, Listed, parse_address};
use super::document;
use super::mistake::{Mistakes, Place, Report};
use super::spec::LISTED_MAX;
use super::text;

/// The backends that such a text lists. An empty list says so, `[]`; an empty text is a mistake.
pub fn read_listing(name: &str, bytes: &[u8]) -> Result<Vec<Listed>, Mistakes> {
    let mut report = Report::default();
    report.set_names(&[name]);
    let text = match text::decode_up_to(bytes, LISTING_BYTES_MAX, &mut report) {
        Ok(text) => text,
        Err(shown) => return Err(report.into_mistakes(&[shown])),
    };
    let lines = || text.lines().enumerate().map(|(at, line)| (at + 1, line.split('#').next().unwrap_or("")));
    let first = lines().map(|(_, line)| line.trim()).find(|line| !line.is_empty());
    let listed = match first {
        None => {
            report.tell_with_hint(Place::FILE, "the list is empty", "`[]` says that there is nobody");
            Vec::new()
        }
        Some(first) if is_plain(first) => plain(lines(), &mut report),
        Some(_) => document::parse(&text, 0, &mut report)
            .map_or_else(Vec::new, |document| check::listed(&document, &mut report)),
    };
    if report.is_empty() { Ok(listed) } else { Err(report.into_mistakes(&[text])) }
}

/// The first line of a list of lines: an address, or something that is no YAML list, map or JSON.
fn is_plain(first: &str) -> bool {
    let begins_a_tree =
        first.starts_with(['[', '{', '-', '%', '&', '!']) || first.contains(": ") || first.ends_with(':');
    parse_address(first).is_ok() || !begins_a_tree
}

fn plain<'a>(lines: impl Iterator<Item = (usize, &'a str)>, report: &mut Report) -> Vec<Listed> {
    let mut nodes = Vec::new();
    for (number, line) in lines {
        let text = line.trim();
        if text.is_empty() {
            continue;
        }
        let column = line.chars().take_while(|c| c.is_whitespace()).count() + 1;
        let place = Place { file: 0, line: number, column, width: text.chars().count() };
        if nodes.len() >= LISTED_MAX {
            report.tell(place, format!("a list has at most {LISTED_MAX} backends"));
            return Vec::new();
        }
        nodes.push(document::Node { place, value: document::Value::Text(text.into()) });
    }
    let place = Place { file: 0, line: 1, column: 1, width: 1 };
    check::listed(&document::Node { place, value: document::Value::List(nodes.into()) }, report)
}

/// Of a list.
pub const LISTING_BYTES_MAX: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let read = read_listing("l", text.as_bytes()).unwrap_or_else(|mistakes| panic!("{text}\n{mistakes}"));
        let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        let one = |one: Listed| {
            let name = one.name.unwrap_or("-".to_owned());
            let numbers = [one.port.map(u64::from), one.weight.map(u64::from), one.tier.map(u64::from)];
            let numbers = numbers.into_iter().chain([one.max_sessions.map(u64::from)]).map(number);
            format!("{name} {} {}", one.ip, numbers.collect::<Vec<_>>().join(" "))
        };
        read.into_iter().map(one).collect()
    }

    #[test]
    fn each_form_says_the_same() {
        let expected = ["- 10.0.0.1 5432 - - -", "- 2001:db8::1 5432 - - -"];
        for text in [
            "[10.0.0.1:5432, '[2001:db8::1]:5432']",
            "- 10.0.0.1:5432\n- address: '[2001:db8::1]:5432'\n",
            "backends:\n  - 10.0.0.1:5432\n  - '[2001:db8::1]:5432'\n",
            r#"["10.0.0.1:5432", {"address": "[2001:db8::1]:5432"}]"#,
            r#"[{"targets": ["10.0.0.1:5432", "[2001:db8::1]:5432"], "labels": {"env": "prod"}}]"#,
            "# generated\n10.0.0.1:5432\n\n  [2001:db8::1]:5432  # the other\r\n",
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        assert_eq!(shown("[2001:db8::1]:1\n10.0.0.1"), ["- 2001:db8::1 1 - - -", "- 10.0.0.1 - - - -"]);
        assert!(shown("[]").is_empty() && shown("backends: []").is_empty());
    }

    #[test]
    fn what_is_said_besides_is_taken() {
        let text = "- { address: 10.0.0.1:1, name: a, weight: 0, tier: 2, max_sessions: 9 }";
        assert_eq!(shown(text), ["a 10.0.0.1 1 0 2 9"]);
        let text = r#"[{"targets": ["10.0.0.1:1"], "labels": {"name": "a", "weight": "0", "tier": "2", "max_sessions": "9", "__meta_x": "y"}}]"#;
        assert_eq!(shown(text), ["a 10.0.0.1 1 0 2 9"]);
    }

    #[test]
    fn one_bad_entry_spoils_the_list_and_is_told_with_its_place() {
        let cases: &[(&[u8], &str)] = &[
            (b"", "0:0 the list is empty"),
            (b"# nothing\n", "0:0 the list is empty"),
            (
                b"- 10.0.0.1:1\n- 10.0.0.2:99999\n",
                "2:3 `99999` is not a port; a port is a number from 1 to 65535",
            ),
            (
                b"10.0.0.1:1\n  db.test:1\n",
                "2:3 `db.test` is a host name; a list has addresses, names are not looked up in it",
            ),
            (b"[10.0.0.1:1", "1:1 `[` is not closed"),
            (b"\x00\x01", "1:1 control character U+0000 in the file"),
            (
                b"- { from: { file: /x } }",
                "1:5 `from` stands in the configuration alone: a list has addresses",
            ),
            (b"- 10.0.0.1:1\n- 10.0.0.1:1\n", "2:3 `10.0.0.1:1` is in the list already, on line 1"),
            (b"- { address: 10.0.0.1:1, wieght: 1 }", "did you mean `weight`?"),
            (
                b"- { address: 10.0.0.1:1, weight: 257 }",
                "`weight` must be a whole number from 0 to 256, not `257`",
            ),
            (b"- 224.0.0.1:1", "a connection goes to one host"),
            (b"{\"a\": 1}", "this must be a list"),
            (b"[{\"targets\": \"10.0.0.1:1\"}]", "`targets` must be a list"),
        ];
        for (bytes, expected) in cases {
            let mistakes = read_listing("l", bytes).unwrap_err();
            let first = &mistakes.list()[0];
            let told = format!("{}:{} {}", first.line, first.column, first.message);
            assert!(told.contains(expected), "{}\n{told}", String::from_utf8_lossy(bytes));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_list_or_a_mistake(bytes: Vec<u8>, text in "[-\\[\\]{}:,.0-9a-f#'\" \n]{0,60}") {
            for bytes in [&*bytes, text.as_bytes()] {
                match read_listing("l", bytes) {
                    Ok(all) => assert!(all.len() <= bytes.len()),
                    Err(mistakes) => assert!(!mistakes.in_a_line().is_empty() && !mistakes.in_a_line().contains('\n')),
                }
            }
        }
    }

    #[test]
    fn a_list_has_a_bound() {
        let lines = |count: u32| {
            let ip = |at: u32| std::net::Ipv4Addr::from(0x0a00_0000 + at);
            (0..count).map(|at| format!("{}:1\n", ip(at))).collect::<String>()
        };
        assert_eq!(read_listing("l", lines(10_000).as_bytes()).unwrap().len(), 10_000);
        assert!(read_listing("l", lines(10_001).as_bytes()).is_err());
        assert!(
            read_listing("l", &vec![b' '; LISTING_BYTES_MAX + 1]).unwrap_err().to_string().contains("8 MiB")
        );
    }
}
