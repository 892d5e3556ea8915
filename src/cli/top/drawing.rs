//! The screen: head, curves, the table of pools and backends, what is selected, and what the keys do.
//!
//! Must stay true: every size of screen is drawn, however small; a colour is never the only sign of anything; the cause of a
//! state is on the screen whole, in its column or below its backend.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph, Sparkline};

use super::ink::Ink;
use super::picture::{Picture, Point};
use super::table::{self, Row};
use super::view::{Mode, View};
use crate::cli::commands::shown::bytes;
use crate::durations::age;

/// Everything on the screen.
#[derive(Debug)]
pub(super) struct Screen<'a> {
    pub(super) picture: &'a Picture,
    pub(super) view: &'a View,
    /// How long nobody has answered, and what was met.
    pub(super) lost: Option<(Duration, &'a str)>,
    /// What came of the last order.
    pub(super) notice: Option<&'a str>,
    pub(super) ink: Ink,
}

/// Draws it. How many rows of backends fit is how far a page goes.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen<'_>) -> usize {
    let area = frame.area();
    let warnings = warnings(screen);
    let is_tall = area.height >= CURVES_HEIGHT_MIN && area.width >= CURVES_WIDTH_MIN;
    // On a small screen the first warning stands for all.
    let told = warnings.len().min(if area.height >= 16 { 3 } else { 1 });
    let [head, alarm, curves, body, detail, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(u16::try_from(told).unwrap_or(0)),
        Constraint::Length(if is_tall { 3 } else { 0 }),
        Constraint::Min(1),
        Constraint::Length(u16::from(area.height >= 12)),
        Constraint::Length(u16::from(area.height >= 3)),
    ])
    .areas(area);
    frame.render_widget(self::head(screen, usize::from(head.width)), head);
    frame.render_widget(Paragraph::new(warnings.into_iter().take(told).collect::<Vec<_>>()), alarm);
    if is_tall {
        self::curves(frame, screen, curves);
    }
    let page = rows(frame, screen, body);
    frame.render_widget(self::detail(screen), detail);
    frame.render_widget(self::foot(screen), foot);
    if screen.view.mode == Mode::Helping {
        help(frame, area);
    }
    page
}

fn head(screen: &Screen<'_>, width: usize) -> Line<'static> {
    let (reading, rates) = (&screen.picture.reading, screen.picture.rates);
    let name = format!("evenkeel {}", reading.version);
    // How soon it gives way on a narrow screen, and the text; in the order of the screen.
    let mut parts = vec![
        (3, name),
        (5, reading.phase.clone()),
        (2, format!("up {}", age(reading.uptime_ms / 1_000))),
        (7, format!("file {}", reading.generation)),
        (0, format!("{} sessions", reading.traffic().active)),
        (1, format!("{}/s new", rates.map_or_else(|| "-".into(), |rates| table::rate(rates.begun)))),
        (4, format!("{}/s", rates.map_or_else(|| "-".into(), |rates| table::size(rates.bytes)))),
        (6, format!("by {}", screen.view.sort.word())),
    ];
    if !screen.view.filter.is_empty() {
        parts.push((0, format!("/{}", screen.view.filter)));
    }
    let length =
        |parts: &[(u8, String)]| parts.iter().map(|(_, text)| text.chars().count() + 2).sum::<usize>();
    while parts.len() > 1 && length(&parts) > width + 2 {
        let first = parts.iter().map(|(soon, _)| *soon).max();
        let place = parts.iter().position(|(soon, _)| Some(*soon) == first);
        parts.remove(place.unwrap_or(0));
    }
    let text: Vec<String> = parts.into_iter().map(|(_, text)| text).collect();
    Line::styled(text.join("  "), Style::new().add_modifier(Modifier::BOLD))
}

/// What somebody should look at, the worst first.
fn warnings(screen: &Screen<'_>) -> Vec<Line<'static>> {
    let (bad, doubtful) = (screen.ink.of(Color::Red), screen.ink.of(Color::Yellow));
    let mut all = Vec::new();
    if let Some((since, why)) = screen.lost {
        let told =
            format!("! no answer for {}s, trying again; what is shown was before ({why})", since.as_secs());
        all.push(Line::styled(told, bad.add_modifier(Modifier::BOLD)));
    }
    let reading = &screen.picture.reading;
    if !matches!(reading.phase.as_str(), "running" | "") {
        all.push(Line::styled(format!("! the balancer is {}", reading.phase), doubtful));
    }
    if let Some(by) = &reading.withdrawn_by {
        all.push(Line::styled(format!("! withdrawn by {by}: evenkeel announce ends it"), doubtful));
    }
    let shut = reading.listeners.iter().filter(|listener| !listener.is_ready).map(|listener| &*listener.name);
    let shut: Vec<&str> = shut.collect();
    if !shut.is_empty() {
        let listed = shut.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
        let more = if shut.len() > NAMES_MAX {
            format!(" and {} more", shut.len() - NAMES_MAX)
        } else {
            String::new()
        };
        all.push(Line::styled(format!("! no eligible backend: listener {listed}{more}"), bad));
    }
    if let Some(ago_s) = reading.refused_s {
        let told = format!("! the last reload, {} ago, was refused: evenkeel check", age(ago_s));
        all.push(Line::styled(told, bad));
    }
    if let [[pool, source, state], more @ ..] = &*reading.sources {
        let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        all.push(Line::styled(
            format!("! {source} of the pool {pool} is {state}{more}: evenkeel sources"),
            doubtful,
        ));
    }
    for (limit, ratio) in reading.limits.iter().filter(|(_, ratio)| *ratio >= LIMIT_WARNING) {
        all.push(Line::styled(format!("! {limit}: {:.0} % of the limit is in use", ratio * 100.0), doubtful));
    }
    all
}

/// Three curves of the last minute beside each other, each below its title.
fn curves(frame: &mut Frame<'_>, screen: &Screen<'_>, area: Rect) {
    let picture = screen.picture;
    let rates = picture.rates.unwrap_or_default();
    let titles = [
        format!("active {}", picture.reading.traffic().active),
        format!("new/s {}", table::rate(rates.begun)),
        format!("bytes/s {}", table::size(rates.bytes)),
    ];
    let of: [fn(&Point) -> f64; 3] = [|point| point.active, |point| point.begun, |point| point.bytes];
    let places = Layout::horizontal([Constraint::Fill(1); 3]).spacing(2).split(area);
    for ((title, of), place) in titles.into_iter().zip(of).zip(places.iter()) {
        let [name, curve] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(*place);
        frame.render_widget(Line::from(title), name);
        let data = picture.curve(usize::from(curve.width), of);
        frame.render_widget(Sparkline::default().data(data).style(screen.ink.of(Color::Cyan)), curve);
    }
}

/// The table, scrolled so that the selected row is on the screen. Returns how many rows fit.
fn rows(frame: &mut Frame<'_>, screen: &Screen<'_>, area: Rect) -> usize {
    let (height, width) = (usize::from(area.height), usize::from(area.width));
    let rows = table::rows(screen.picture, screen.view, screen.ink, width);
    if rows.is_empty() {
        let told = if screen.view.filter.is_empty() {
            "no pools".to_owned()
        } else {
            format!("nothing fits `{}`", screen.view.filter)
        };
        frame.render_widget(Line::from(told), area);
        return 1;
    }
    let is_selected = |row: &Row| row.whom.is_some() && row.whom == screen.view.selected;
    let first = rows.iter().position(is_selected).unwrap_or(0);
    let last = rows.iter().rposition(is_selected).unwrap_or(0);
    // In the middle, but for the ends of the table.
    let top = (first + last + 1).saturating_sub(height).div_ceil(2).min(rows.len().saturating_sub(height));
    // A row with its cause is seen from its first line on.
    let top = top.min(first);
    let lines: Vec<Line<'static>> = rows
        .into_iter()
        .skip(top)
        .take(height)
        .map(|row| {
            let chosen = is_selected(&row);
            if chosen {
                row.line.patch_style(Style::new().add_modifier(Modifier::REVERSED))
            } else {
                row.line
            }
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), area);
    height.saturating_sub(2).max(1)
}

/// What of the selected backend finds no column.
fn detail(screen: &Screen<'_>) -> Line<'static> {
    let Some(whom) = &screen.view.selected else { return Line::default() };
    let pools = &screen.picture.reading.pools;
    let pool = pools.iter().find(|pool| pool.name == whom.pool);
    let Some(backend) =
        pool.and_then(|pool| pool.backends.iter().find(|backend| backend.name == whom.backend))
    else {
        return Line::default();
    };
    let mut told = format!("{}/{}  {}  weight {}", whom.pool, whom.backend, backend.address, backend.weight);
    if backend.connect_failures > 0 {
        told.push_str(&format!("  {} connects failed", backend.connect_failures));
    }
    if backend.empty_ends > 0 {
        told.push_str(&format!("  {} ended without a byte", backend.empty_ends));
    }
    if backend.owed > 0 {
        told.push_str(&format!("  owes {} answers", backend.owed));
    }
    told.push_str(&format!("  {} sessions, {} so far", backend.traffic.begun, bytes(backend.traffic.bytes)));
    Line::styled(told, Style::new().add_modifier(Modifier::DIM))
}

fn foot(screen: &Screen<'_>) -> Line<'static> {
    let strong = Style::new().add_modifier(Modifier::BOLD);
    match &screen.view.mode {
        Mode::Filtering => Line::from(vec![
            Span::styled(format!("filter: {}_", screen.view.filter), strong),
            Span::raw("  Enter keeps it, Esc takes it away"),
        ]),
        Mode::Asking(whom) => Line::styled(
            format!(
                "drain {}/{}? Nothing new goes there. y: yes, any other key: no",
                whom.pool, whom.backend
            ),
            screen.ink.of(Color::Yellow).add_modifier(Modifier::BOLD),
        ),
        Mode::Watching | Mode::Helping => match screen.notice {
            Some(notice) => Line::styled(notice.to_owned(), strong),
            None => Line::from("q quit  j/k select  d drain  r ready  s sort  / filter  ? help"),
        },
    }
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let width = area.width.min(64);
    let height = area.height.min(u16::try_from(HELP.len()).unwrap_or(u16::MAX));
    let [middle] =
        Layout::horizontal([Constraint::Length(width)]).flex(ratatui::layout::Flex::Center).areas(area);
    let [middle] =
        Layout::vertical([Constraint::Length(height)]).flex(ratatui::layout::Flex::Center).areas(middle);
    frame.render_widget(Clear, middle);
    let lines: Vec<Line<'_>> = HELP.iter().map(|line| Line::from(*line)).collect();
    let style = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_widget(Paragraph::new(lines).style(style).alignment(Alignment::Left), middle);
}

const CURVES_HEIGHT_MIN: u16 = 16;
const CURVES_WIDTH_MIN: u16 = 60;
/// How full a limit is when it is told.
const LIMIT_WARNING: f64 = 0.8;
/// Names in one warning.
const NAMES_MAX: usize = 5;
const HELP: [&str; 12] = [
    " Up Down j k    select a backend; PgUp PgDn, g and G go far",
    " d              drain it: nothing new goes there (asks first)",
    " r              ready: takes drain and down back",
    " s              sort by the next: name, state, active, new/s,",
    "                bytes/s, latency, or as in the file",
    " /              filter by pool, backend, address or state",
    " q Esc Ctrl-C   leave",
    " NEW/S          sessions that begin in a second",
    " LATENCY        of a connect or first answer, lately",
    " dial, check    the average of connects and health checks",
    " The curves are the last minute.",
    " Any key goes back.",
];
