//! `evenkeel top`: the balancer live, full screen.
//!
//! One thread asks the balancer and carries out orders, one reads keys, and this one draws. Must stay true: however it ends,
//! by a key, a signal, an error or a fault, the terminal is given back as it was; a balancer that goes away is told on the
//! screen and asked again.

mod asking;
mod drawing;
mod ink;
mod picture;
mod reading;
mod table;
mod view;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::client::{Client, Told};
use super::exit_code::FAILED;
use super::output::{colours_are_wanted, complain, failed};
use super::run::{Stop, control_runtime};
use crate::config::units::parse_duration;
use asking::{Heard, Order};
use drawing::Screen;
use ink::Ink;
use picture::Picture;
use reading::Reading;
use view::{Key, View, Wish};

#[derive(Debug, Args)]
pub(super) struct Top {
    /// The socket of the balancer [default: EVENKEEL_SOCKET, then /run/evenkeel/admin.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// How often it is looked at: 100ms to 1m
    #[arg(long, value_name = "T", default_value = "1s", value_parser = interval)]
    interval: Duration,
}

/// Shows it until somebody leaves.
pub(super) fn top(top: Top) -> ExitCode {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return failed(
            &"top needs a terminal for its screen and its keys; for a program or a file: evenkeel status --json",
        );
    }
    let first = Client::new(top.socket, false).and_then(|client| {
        let client = client.with_patience(PATIENCE);
        let status = client.ask("GET", "/status", &[])?;
        Ok((client, Reading::of(&status)))
    });
    let (client, first) = match first {
        Ok(first) => first,
        Err(Told(code)) => return code,
    };
    let shown = control_runtime().and_then(|runtime| {
        runtime.block_on(async {
            // Before the screen changes: a signal must not find its default action.
            let ends = Ends::new()?;
            // Restores the terminal before a fault is told, too.
            let mut terminal = ratatui::try_init()?;
            let live = Live::new(first);
            let outcome = live.show(&mut terminal, ends, client, top.interval).await;
            let restored = ratatui::try_restore();
            outcome.and(restored)
        })
    });
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("evenkeel: top broke off: {error}"));
            ExitCode::from(FAILED)
        }
    }
}

/// SIGTERM, SIGINT, and the terminal that goes away.
struct Ends {
    stop: Stop,
    hang_up: tokio::signal::unix::Signal,
}

impl Ends {
    fn new() -> io::Result<Self> {
        Ok(Self { stop: Stop::new()?, hang_up: signal(SignalKind::hangup())? })
    }

    async fn come(&mut self) {
        // Both are cancel-safe: a signal is taken or stays.
        tokio::select! {
            () = self.stop.asked() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// What is on the screen, and why.
struct Live {
    picture: Picture,
    view: View,
    lost: Option<(Instant, String)>,
    notice: Option<(Instant, String)>,
    ink: Ink,
}

impl Live {
    fn new(first: Reading) -> Self {
        let ink = Ink { has_colours: colours_are_wanted() };
        let mut live =
            Self { picture: Picture::default(), view: View::default(), lost: None, notice: None, ink };
        live.hear(Heard::Reading(Box::new(first)));
        live
    }

    async fn show(
        mut self,
        terminal: &mut DefaultTerminal,
        mut ends: Ends,
        client: Client,
        interval: Duration,
    ) -> io::Result<()> {
        let (orders, mut heard) = asking::begin(client, interval)?;
        let mut keys = listen()?;
        loop {
            self.draw(terminal)?;
            // Every arm is cancel-safe: what was sent is taken or stays.
            tokio::select! {
                () = ends.come() => return Ok(()),
                answer = heard.recv() => match answer {
                    Some(answer) => self.hear(answer),
                    None => return Err(io::Error::other("nobody asks the balancer any more")),
                },
                event = keys.recv() => match event {
                    Some(event) => if self.handle(&event?, &orders) { return Ok(()) },
                    None => return Err(io::Error::other("nobody reads the keys any more")),
                },
            }
        }
    }

    fn draw(&mut self, terminal: &mut DefaultTerminal) -> io::Result<()> {
        let now = Instant::now();
        if self.notice.as_ref().is_some_and(|(since, _)| now - *since > NOTICE_STAYS) {
            self.notice = None;
        }
        let screen = Screen {
            picture: &self.picture,
            view: &self.view,
            lost: self.lost.as_ref().map(|(since, why)| (now - *since, &**why)),
            notice: self.notice.as_ref().map(|(_, notice)| &**notice),
            ink: self.ink,
        };
        let mut page = 1;
        terminal.draw(|frame| page = drawing::draw(frame, &screen))?;
        self.view.page = page;
        Ok(())
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Reading(reading) => {
                self.lost = None;
                self.picture.take(*reading);
                self.view.settle(&self.picture);
            }
            Heard::Nothing(why) => {
                let since = self.lost.as_ref().map_or_else(Instant::now, |(since, _)| *since);
                self.lost = Some((since, why));
            }
            Heard::Done(what) => self.notice = Some((Instant::now(), what)),
        }
    }

    /// Is it over?
    fn handle(&mut self, event: &Event, orders: &std::sync::mpsc::SyncSender<Order>) -> bool {
        let Event::Key(key) = event else { return false };
        let Some(key) = named(key) else { return false };
        self.notice = None;
        match self.view.press(key, &self.picture) {
            Wish::Nothing => false,
            Wish::Leave => true,
            Wish::Mark(whom, mark) => {
                let full = orders.try_send(Order { whom, mark }).is_err();
                if full {
                    let told = "the balancer has not answered the order before yet".to_owned();
                    self.notice = Some((Instant::now(), told));
                }
                false
            }
        }
    }
}

/// Reads keys on a thread of its own; it ends with the process.
fn listen() -> io::Result<mpsc::Receiver<io::Result<Event>>> {
    let (sender, keys) = mpsc::channel(KEYS_WAITING_MAX);
    std::thread::Builder::new().name("keys".into()).spawn(move || {
        loop {
            let event = event::read();
            let is_last = event.is_err();
            if sender.blocking_send(event).is_err() || is_last {
                return;
            }
        }
    })?;
    Ok(keys)
}

fn named(key: &KeyEvent) -> Option<Key> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(Key::Interrupt);
    }
    match key.code {
        KeyCode::Up => Some(Key::Up),
        KeyCode::Down => Some(Key::Down),
        KeyCode::PageUp => Some(Key::PageUp),
        KeyCode::PageDown => Some(Key::PageDown),
        KeyCode::Home => Some(Key::First),
        KeyCode::End => Some(Key::Last),
        KeyCode::Enter => Some(Key::Enter),
        KeyCode::Esc => Some(Key::Escape),
        KeyCode::Backspace => Some(Key::Backspace),
        KeyCode::Char(c) => Some(Key::Char(c)),
        _ => None,
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text).map_err(|error| error.to_string())?;
    if (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
        Ok(interval)
    } else {
        Err("is not between 100ms and 1m".to_owned())
    }
}

const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(60);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
const NOTICE_STAYS: Duration = Duration::from_secs(8);
/// What is typed faster than it is drawn waits in the terminal.
const KEYS_WAITING_MAX: usize = 64;

#[cfg(test)]
mod tests;
