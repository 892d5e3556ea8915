//! What is drawn, on screens of every size, and that a fault gives the terminal back.

use std::process::{Command, Stdio};
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;
use serde_json::{Value, json};

use super::drawing::{Screen, draw};
use super::ink::Ink;
use super::picture::Picture;
use super::reading::Reading;
use super::view::{Key, View};
use super::{interval, named};

fn backend(name: &str, state: &str, cause: &str) -> Value {
    json!({ "name": name, "address": "10.0.0.11:5432", "state": state, "cause": cause, "since_s": 720, "weight": 1,
        "active": 40, "max_sessions": 190, "sessions": 1_000, "connect_failures": 7, "latency_us": 850,
        "to_backend": 1_000_000, "to_client": 2_000_000 })
}

fn status(uptime_ms: u64, more: u64) -> Value {
    let mut db1 = backend("db1", "up", "");
    db1["sessions"] = json!(1_000 + 12 * more);
    db1["to_client"] = json!(2_000_000 + 3_400_000 * more);
    let down = backend("db2", "down", "connection refused, 3 of 3 checks; now 1 of 2 checks good");
    json!({
        "version": "0.1.0", "pid": 7, "phase": "running", "uptime_ms": uptime_ms, "config": { "generation": 1 },
        "limits": { "tcp_sessions": { "used": 90, "most": 100 } },
        "listeners": [
            { "name": "postgres", "protocol": "tcp", "pool": "postgres", "ready": true, "active": 40, "begun": 1_000 + 12 * more },
            { "name": "dns", "protocol": "udp", "pool": "dns", "ready": false },
        ],
        "pools": [
            { "name": "postgres", "balance": "least_connections", "eligible": 1, "connects": 10 + more, "connects_us": 8_500 + 900 * more,
              "checks": 5 + more, "checks_us": 400 * (5 + more), "backends": [db1, down, backend("standby", "standby", "tier 1: a lower one serves")] },
            { "name": "dns", "balance": "round_robin", "eligible": 0, "backends": [backend("evil\u{1b}[31m\nname", "down", "timeout")],
              "sources": [{ "source": "dns.example.org:53", "state": "ok" }, { "source": "file /b.yaml", "state": "failing" }, { "source": "c", "state": "held" }],
              "leaving": [{ "name": "old", "address": "10.0.0.9:53", "active": 2 }] },
        ],
    })
}

fn picture() -> Picture {
    let mut picture = Picture::default();
    picture.take(Reading::of(&status(10_000, 0)));
    picture.take(Reading::of(&status(11_000, 1)));
    picture
}

fn drawn(width: u16, height: u16, picture: &Picture, view: &mut View, has_colours: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    view.settle(picture);
    let lost = (Duration::from_secs(3), "connection refused");
    let lost = view.filter.contains("lost").then_some(lost);
    let screen = Screen { picture, view, lost, notice: None, ink: Ink { has_colours } };
    terminal.draw(|frame| _ = draw(frame, &screen)).unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let rows = buffer.content().chunks(usize::from(buffer.area.width).max(1));
    rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned() + "\n")
        .collect()
}

#[test]
fn eighty_columns_show_states_with_cause_and_age_rates_and_times() {
    let shown = text(&drawn(80, 24, &picture(), &mut View::default(), true));
    for part in [
        "evenkeel 0.1.0  running  up 11s",
        "40 sessions  12.0/s new",
        "! no eligible backend: listener dns",
        "! file /b.yaml of the pool dns is failing and 1 more: evenkeel sources",
        "! tcp_sessions: 90 % of the limit is in use",
        "active 40",
        "bytes/s",
        "postgres",
        "1/3 eligible",
        "12.0/s  3.4 MB/s  dial 900 us  check 400 us",
        "> db1",
        "40/190",
        "850 us",
        "db2",
        "connection refused, 3 of 3 checks; now 1 of 2 checks good",
        "12m",
        "standby",
        "leaving",
        "postgres/db1  10.0.0.11:5432  weight 1  7 connects failed",
        "q quit",
    ] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
}

#[test]
fn a_wide_screen_has_a_column_for_the_cause() {
    let shown = text(&drawn(160, 40, &picture(), &mut View::default(), true));
    let line = shown.lines().find(|line| line.contains("db2")).unwrap();
    assert!(line.ends_with("connection refused, 3 of 3 checks; now 1 of 2 checks good"), "{line}");
    assert!(shown.contains("tcp least_connections") && shown.contains("udp round_robin"), "{shown}");
}

#[test]
fn a_small_screen_keeps_what_matters() {
    let mut view = View::default();
    view.press(Key::Down, &picture());
    let shown = text(&drawn(40, 10, &picture(), &mut view, true));
    for part in
        ["40 sessions", "! no eligible", "> db2", "down", "connection refused, 3 of 3 checks;", "now 1 of 2"]
    {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
}

#[test]
fn every_size_in_every_mode_is_drawn() {
    for keys in ["", "/", "/zzz", "?", "d", "/lost\n"] {
        for picture in [picture(), Picture::default()] {
            for (width, height) in
                (0..130).step_by(7).flat_map(|width| (0..32).map(move |height| (width, height)))
            {
                let mut view = View::default();
                view.settle(&picture);
                for key in keys.chars() {
                    view.press(if key == '\n' { Key::Enter } else { Key::Char(key) }, &picture);
                }
                drawn(width, height, &picture, &mut view, true);
            }
        }
    }
}

#[test]
fn the_selected_row_is_on_the_screen_in_a_long_table() {
    let mut status = status(1_000, 0);
    let many = (0..1_000).map(|at| backend(&format!("b{at}"), "down", "timeout")).collect::<Vec<_>>();
    status["pools"][0]["backends"] = json!(many);
    let mut picture = Picture::default();
    picture.take(Reading::of(&status));
    let mut view = View::default();
    drawn(80, 24, &picture, &mut view, true);
    for at in 0..1_000 {
        if at % 37 == 0 || at > 990 {
            let shown = text(&drawn(80, 24, &picture, &mut view, true));
            assert!(shown.contains(&format!("> b{at} ")), "{shown}");
            assert!(shown.lines().count() == 24);
        }
        view.press(Key::Down, &picture);
    }
}

#[test]
fn modes_say_what_the_keys_do_now() {
    let picture = picture();
    let mut view = View::default();
    view.settle(&picture);
    view.press(Key::Char('d'), &picture);
    let shown = text(&drawn(80, 24, &picture, &mut view, true));
    assert!(shown.contains("drain postgres/db1? Nothing new goes there. y: yes"), "{shown}");
    view.press(Key::Escape, &picture);
    for key in "/dns".chars() {
        view.press(Key::Char(key), &picture);
    }
    let shown = text(&drawn(80, 24, &picture, &mut view, true));
    assert!(shown.contains("filter: dns_") && !shown.contains("db2"), "{shown}");
    assert!(shown.contains("evil[31mname"), "names are printed, not obeyed: {shown}");
    view.press(Key::Enter, &picture);
    view.press(Key::Char('s'), &picture);
    view.press(Key::Char('s'), &picture);
    let shown = text(&drawn(80, 24, &picture, &mut view, true));
    assert!(shown.contains("STATE*") && shown.contains("/dns"), "{shown}");
    view.press(Key::Char('?'), &picture);
    let shown = text(&drawn(80, 24, &picture, &mut view, true));
    assert!(shown.contains("ready: takes drain and down back"), "{shown}");
    let mut view = View::default();
    view.filter = "lost".into();
    let shown = text(&drawn(100, 24, &picture, &mut view, true));
    assert!(
        shown.contains("no answer for 3s, trying again") && shown.contains("nothing fits `lost`"),
        "{shown}"
    );
}

#[test]
fn without_colours_there_are_none() {
    let coloured = |has_colours| {
        let buffer = drawn(120, 30, &picture(), &mut View::default(), has_colours);
        buffer.content().iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(coloured(true));
    assert!(!coloured(false));
}

#[test]
fn an_interval_has_bounds_and_keys_have_names() {
    assert_eq!(interval("2s"), Ok(Duration::from_secs(2)));
    for wrong in ["99ms", "61s", "0s", "1", "x"] {
        assert!(interval(wrong).is_err(), "{wrong}");
    }
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    let key = |code, modifiers| named(&KeyEvent::new(code, modifiers));
    assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::Interrupt));
    assert_eq!(key(KeyCode::Char('d'), KeyModifiers::CONTROL), None, "not a drain");
    assert_eq!(key(KeyCode::Char('G'), KeyModifiers::SHIFT), Some(Key::Char('G')));
    assert_eq!(key(KeyCode::F(1), KeyModifiers::NONE), None);
}

#[test]
fn a_fault_is_told_on_a_terminal_that_is_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    let this = std::env::current_exe().unwrap();
    // script gives the child a terminal of its own and notes what came to it; stty tells its state afterwards.
    let inner = format!(
        "{} --ignored --exact cli::top::tests::a_fault_on_the_screen --nocapture; stty -a",
        this.display()
    );
    let outcome =
        Command::new("script").args(["-q", "-e", "-c", &inner]).arg(&said).stdin(Stdio::null()).output();
    let Ok(_) = outcome else {
        println!("left out: script (bsdutils) is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&std::fs::read(&said).unwrap()).into_owned();
    let taken = said.find("\x1b[?1049h").unwrap_or_else(|| panic!("the screen was not taken: {said:?}"));
    let given =
        said.rfind("\x1b[?1049l").unwrap_or_else(|| panic!("the screen was not given back: {said:?}"));
    let told = said.rfind("this is the fault").unwrap_or_else(|| panic!("the fault was not told: {said:?}"));
    assert!(taken < given && given < told, "{said:?}");
    let words: Vec<&str> = said[told..].split_whitespace().map(|word| word.trim_end_matches(';')).collect();
    assert!(words.contains(&"icanon") && words.contains(&"echo"), "the terminal is raw: {said}");
}

/// Not a test by itself: the test above runs it in a terminal.
#[test]
#[ignore = "run by another test, in a terminal"]
fn a_fault_on_the_screen() {
    let mut terminal = ratatui::try_init().unwrap();
    terminal.draw(|frame| frame.render_widget("the screen is taken", frame.area())).unwrap();
    panic!("this is the fault");
}
