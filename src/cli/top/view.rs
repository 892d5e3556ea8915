//! What the operator wants to see and does: selection, sort, filter, questions; which rows follow from that.
//!
//! Pure. Must stay true: nothing changes the service without a question answered by `y`, but for `ready`, which takes a mark
//! back; and an answer is about the backend that was asked for, wherever the selection went meanwhile.

use std::cmp::Ordering;

use super::picture::{Picture, Rates};
use super::reading::Backend;

/// A key, whatever the terminal calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Char(char),
    Enter,
    Escape,
    Backspace,
    /// Ctrl-C: it leaves from everywhere.
    Interrupt,
}

/// What a key asks of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    Leave,
    /// Say this of that backend.
    Mark(Whom, &'static str),
}

/// A backend by its names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Whom {
    pub(super) pool: String,
    pub(super) backend: String,
}

/// What the keys go to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Watching,
    /// They are written into the filter.
    Filtering,
    /// `y` drains it.
    Asking(Whom),
    Helping,
}

/// The order of the backends of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// As in the file.
    #[default]
    File,
    Name,
    /// What needs a look first.
    State,
    Active,
    Begun,
    Bytes,
    Latency,
}

impl Sort {
    /// Its word in the head.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Name => "name",
            Self::State => "state",
            Self::Active => "active",
            Self::Begun => "new/s",
            Self::Bytes => "bytes/s",
            Self::Latency => "latency",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::File => Self::Name,
            Self::Name => Self::State,
            Self::State => Self::Active,
            Self::Active => Self::Begun,
            Self::Begun => Self::Bytes,
            Self::Bytes => Self::Latency,
            Self::Latency => Self::File,
        }
    }
}

/// The backends on show of one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Where the pool stands in the reading.
    pub(super) pool: usize,
    /// Where its backends stand there, in their order.
    pub(super) backends: Vec<usize>,
}

/// The wishes of the operator.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) mode: Mode,
    pub(super) sort: Sort,
    pub(super) filter: String,
    pub(super) selected: Option<Whom>,
    /// Rows that fit the screen: how far a page goes.
    pub(super) page: usize,
    /// The last row that was selected: what takes its place when it is gone.
    place: usize,
}

impl View {
    /// A key was pressed.
    pub(super) fn press(&mut self, key: Key, picture: &Picture) -> Wish {
        if key == Key::Interrupt {
            return Wish::Leave;
        }
        match std::mem::take(&mut self.mode) {
            Mode::Watching => return self.watching(key, picture),
            Mode::Filtering => self.filtering(key),
            // Any other key is a no.
            Mode::Asking(whom) if matches!(key, Key::Char('y' | 'Y')) => return Wish::Mark(whom, "drain"),
            Mode::Asking(_) | Mode::Helping => {}
        }
        self.settle(picture);
        Wish::Nothing
    }

    /// Keeps the selection on a row that there is.
    pub(super) fn settle(&mut self, picture: &Picture) {
        let rows = self.rows(picture);
        match self.selected.as_ref().and_then(|whom| rows.iter().position(|row| row == whom)) {
            Some(place) => self.place = place,
            None => {
                self.place = self.place.min(rows.len().saturating_sub(1));
                self.selected = rows.into_iter().nth(self.place);
            }
        }
    }

    /// Pools with their backends, as filtered and sorted. A filter leaves out pools of which nothing fits.
    pub(super) fn groups(&self, picture: &Picture) -> Vec<Group> {
        let wanted = self.filter.to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&wanted);
        let pools = picture.reading.pools.iter().enumerate();
        let groups = pools.filter_map(|(at, pool)| {
            let is_whole = wanted.is_empty() || has(&pool.name);
            let fits = |backend: &Backend| {
                is_whole || has(&backend.name) || has(&backend.address) || has(&backend.state_and_role())
            };
            let all = pool.backends.iter().enumerate();
            let mut backends: Vec<usize> =
                all.filter(|(_, backend)| fits(backend)).map(|(index, _)| index).collect();
            let rates = picture.pools.get(at).map_or(&[][..], |rates| &rates.backends);
            let rate = |index: usize| rates.get(index).copied().flatten().unwrap_or_default();
            // The sort is stable: equals stay in the order of the file.
            backends.sort_by(|&a, &b| {
                order(self.sort, (&pool.backends[a], rate(a)), (&pool.backends[b], rate(b)))
            });
            (is_whole || !backends.is_empty()).then_some(Group { pool: at, backends })
        });
        groups.collect()
    }

    fn rows(&self, picture: &Picture) -> Vec<Whom> {
        let groups = self.groups(picture).into_iter();
        groups
            .flat_map(|group| {
                let pool = &picture.reading.pools[group.pool];
                group
                    .backends
                    .into_iter()
                    .map(|at| Whom { pool: pool.name.clone(), backend: pool.backends[at].name.clone() })
            })
            .collect()
    }

    fn watching(&mut self, key: Key, picture: &Picture) -> Wish {
        match key {
            Key::Char('q') | Key::Escape => return Wish::Leave,
            Key::Up | Key::Char('k') => self.go(picture, |place| place.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.go(picture, |place| place + 1),
            Key::PageUp => {
                let page = self.page.max(1);
                self.go(picture, |place| place.saturating_sub(page));
            }
            Key::PageDown => {
                let page = self.page.max(1);
                self.go(picture, |place| place.saturating_add(page));
            }
            Key::First | Key::Char('g') => self.go(picture, |_| 0),
            Key::Last | Key::Char('G') => self.go(picture, |_| usize::MAX),
            Key::Char('s') => {
                self.sort = self.sort.next();
                self.settle(picture);
            }
            Key::Char('/') => self.mode = Mode::Filtering,
            Key::Char('?' | 'h') => self.mode = Mode::Helping,
            Key::Char('d') => {
                if let Some(whom) = self.selected.clone() {
                    self.mode = Mode::Asking(whom);
                }
            }
            Key::Char('r') => {
                if let Some(whom) = self.selected.clone() {
                    return Wish::Mark(whom, "ready");
                }
            }
            _ => {}
        }
        Wish::Nothing
    }

    fn filtering(&mut self, key: Key) {
        match key {
            Key::Enter => return,
            Key::Escape => {
                self.filter.clear();
                return;
            }
            Key::Backspace => drop(self.filter.pop()),
            Key::Char(c) if self.filter.chars().count() < FILTER_MAX => self.filter.push(c),
            _ => {}
        }
        self.mode = Mode::Filtering;
    }

    fn go(&mut self, picture: &Picture, to: impl FnOnce(usize) -> usize) {
        self.settle(picture);
        let rows = self.rows(picture);
        self.place = to(self.place).min(rows.len().saturating_sub(1));
        self.selected = rows.into_iter().nth(self.place);
    }
}

/// What is most of it comes first, but for names.
fn order(sort: Sort, a: (&Backend, Rates), b: (&Backend, Rates)) -> Ordering {
    match sort {
        Sort::File => Ordering::Equal,
        Sort::Name => a.0.name.cmp(&b.0.name),
        Sort::State => urgency(&a.0.state).cmp(&urgency(&b.0.state)),
        Sort::Active => b.0.traffic.active.cmp(&a.0.traffic.active),
        Sort::Begun => b.1.begun.total_cmp(&a.1.begun),
        Sort::Bytes => b.1.bytes.total_cmp(&a.1.bytes),
        Sort::Latency => {
            let latency = |backend: &Backend| backend.latency_us.unwrap_or(-1.0);
            latency(b.0).total_cmp(&latency(a.0))
        }
    }
}

fn urgency(state: &str) -> u8 {
    match state {
        "down" => 0,
        "ejected" | "stale primary" | "contested" => 1,
        "marked down" => 2,
        "untested" => 3,
        "drain" => 4,
        "leaving" => 5,
        "standby" => 7,
        "up" => 8,
        _ => 6,
    }
}

const FILTER_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::super::reading::{Pool, Reading, Traffic};
    use super::*;

    fn backend(name: &str, state: &str, active: u64, begun: u64, latency_us: Option<f64>) -> Backend {
        let traffic = Traffic { active, begun, bytes: begun * 7 };
        Backend { name: name.into(), state: state.into(), latency_us, traffic, ..Backend::default() }
    }

    fn pool(name: &str, backends: Vec<Backend>) -> Pool {
        Pool { name: name.into(), backends, ..Pool::default() }
    }

    fn picture() -> Picture {
        let reading = |uptime_ms, factor| Reading {
            pid: 1,
            uptime_ms,
            pools: vec![
                pool(
                    "games",
                    vec![
                        backend("c", "up", 5, 10 * factor, None),
                        backend("a", "down", 9, 30 * factor, Some(5.0)),
                        backend("b", "drain", 7, 20 * factor, Some(900.0)),
                    ],
                ),
                pool("empty", vec![]),
                pool("redis", vec![backend("a", "up", 1, factor, None)]),
            ],
            ..Reading::default()
        };
        let mut picture = Picture::default();
        picture.take(reading(1_000, 1));
        picture.take(reading(2_000, 2));
        picture
    }

    fn shown(view: &View, picture: &Picture) -> String {
        let rows = view.rows(picture);
        rows.iter().map(|row| format!("{}/{}", row.pool, row.backend)).collect::<Vec<_>>().join(" ")
    }

    fn selected(view: &View) -> String {
        view.selected.as_ref().map_or(String::new(), |whom| format!("{}/{}", whom.pool, whom.backend))
    }

    fn typed(view: &mut View, picture: &Picture, keys: &str) -> Wish {
        keys.chars().fold(Wish::Nothing, |_, key| {
            let key = match key {
                '\n' => Key::Enter,
                '\x1b' => Key::Escape,
                '<' => Key::Backspace,
                other => Key::Char(other),
            };
            view.press(key, picture)
        })
    }

    #[test]
    fn every_order_is_what_its_word_says() {
        let picture = picture();
        let mut view = View::default();
        for (word, expected) in [
            ("file", "games/c games/a games/b redis/a"),
            ("name", "games/a games/b games/c redis/a"),
            ("state", "games/a games/b games/c redis/a"),
            ("active", "games/a games/b games/c redis/a"),
            ("new/s", "games/a games/b games/c redis/a"),
            ("bytes/s", "games/a games/b games/c redis/a"),
            ("latency", "games/b games/a games/c redis/a"),
            ("file", "games/c games/a games/b redis/a"),
        ] {
            assert_eq!((view.sort.word(), &*shown(&view, &picture)), (word, expected));
            view.press(Key::Char('s'), &picture);
        }
    }

    #[test]
    fn a_filter_takes_pools_whole_and_backends_by_name_address_or_state() {
        let picture = picture();
        for (filter, expected) in [
            ("GAM", "games/c games/a games/b"),
            ("a", "games/c games/a games/b redis/a"),
            ("dow", "games/a"),
            ("red", "redis/a"),
            ("nobody", ""),
        ] {
            let mut view = View::default();
            typed(&mut view, &picture, &format!("/{filter}"));
            assert_eq!(shown(&view, &picture), expected, "{filter}");
            assert_eq!(view.mode, Mode::Filtering);
            assert_eq!(typed(&mut view, &picture, "\n"), Wish::Nothing);
            assert_eq!((view.mode.clone(), &*view.filter), (Mode::Watching, filter));
        }
        let mut view = View::default();
        typed(&mut view, &picture, "/qd<<dow");
        assert_eq!(view.filter, "dow", "keys are letters here");
        typed(&mut view, &picture, "\x1b");
        assert_eq!((view.mode, &*view.filter), (Mode::Watching, ""));
    }

    #[test]
    fn the_selection_stays_with_its_backend_and_within_the_rows() {
        let picture = picture();
        let mut view = View::default();
        view.settle(&picture);
        assert_eq!(selected(&view), "games/c");
        for (keys, expected) in [
            ("j", "games/a"),
            ("s", "games/a"),
            ("j", "games/b"),
            ("jjjj", "redis/a"),
            ("k", "games/c"),
            ("g", "games/a"),
            ("kk", "games/a"),
            ("G", "redis/a"),
            ("/games\n", "games/c"),
            ("/\x1b", "games/c"),
        ] {
            typed(&mut view, &picture, keys);
            assert_eq!(selected(&view), expected, "{keys:?}");
        }
        view.page = 2;
        view.press(Key::First, &picture);
        view.press(Key::PageDown, &picture);
        assert_eq!(selected(&view), "games/c");
        view.press(Key::PageUp, &picture);
        assert_eq!(selected(&view), "games/a");
        view.settle(&Picture::default());
        assert_eq!(selected(&view), "", "nothing is there");
        assert_eq!(typed(&mut view, &Picture::default(), "jkdrgG"), Wish::Nothing);
        assert_eq!(view.mode, Mode::Watching, "and nothing to be asked of");
    }

    #[test]
    fn a_drain_wants_a_yes_about_the_one_that_was_asked_for() {
        let picture = picture();
        let whom = Whom { pool: "games".into(), backend: "c".into() };
        let mut view = View::default();
        view.settle(&picture);
        for no in ["dn", "d\x1b", "d\n", "dd", "dq"] {
            assert_eq!(typed(&mut view, &picture, no), Wish::Nothing, "{no:?}");
            assert_eq!(view.mode, Mode::Watching);
        }
        typed(&mut view, &picture, "d");
        view.selected = Some(Whom { pool: "redis".into(), backend: "a".into() });
        assert_eq!(typed(&mut view, &picture, "y"), Wish::Mark(whom.clone(), "drain"));
        assert_eq!(typed(&mut view, &picture, "y"), Wish::Nothing, "once");
        view.selected = Some(whom.clone());
        assert_eq!(typed(&mut view, &picture, "r"), Wish::Mark(whom, "ready"));
    }

    #[test]
    fn leaving_is_always_one_or_two_keys_away() {
        let picture = picture();
        for keys in ["q", "\x1b", "?\x1bq", "/x\x1bq", "d\x1b\x1b"] {
            assert_eq!(typed(&mut View::default(), &picture, keys), Wish::Leave, "{keys:?}");
        }
        for mode in ["", "/", "?", "d"] {
            let mut view = View::default();
            typed(&mut view, &picture, mode);
            assert_eq!(view.press(Key::Interrupt, &picture), Wish::Leave, "{mode:?}");
        }
    }
}
