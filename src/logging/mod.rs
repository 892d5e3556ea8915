//! Logging: lines of text on a terminal, JSON otherwise, never in the way of a data thread.
//!
//! A line is formatted by the thread that says it and put into a bounded queue; one writer thread brings it to standard
//! error. When the disk or the pipe behind it stalls, the queue fills and further lines are dropped and counted:
//! serving goes on.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

use crate::config::settings::{Level, Log, LogFormat};

/// The running log. Dropping it writes what is queued, and takes three seconds at most.
pub struct Logging {
    queue: Queue,
    level: LevelSwitch,
    writer: Option<JoinHandle<()>>,
}

/// Sets the level while the log runs.
#[derive(Debug, Clone, Default)]
pub struct LevelSwitch(Option<reload::Handle<LevelFilter, Registry>>);

impl LevelSwitch {
    /// From now on the least serious level that is written.
    pub fn set(&self, level: Level) {
        if let Some(handle) = &self.0 {
            // It fails only when the log is gone: then there is no level.
            let _ = handle.reload(filter(level));
        }
    }
}

#[derive(Debug, Clone)]
struct Queue {
    lines: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

enum Entry {
    Line(Vec<u8>),
    End,
}

impl Logging {
    /// Begins to log to standard error, for the whole process; a second call changes nothing of what is there.
    pub fn start(log: &Log) -> io::Result<Self> {
        let (lines, received) = sync_channel(LINES_MAX);
        let queue = Queue { lines, dropped: Arc::default() };
        let writer =
            thread::Builder::new().name("log".into()).spawn(move || write_out(&received, io::stderr()))?;
        let terminal = io::stderr().is_terminal();
        let (level_filter, level_handle) = reload::Layer::new(filter(log.level));
        let registry = tracing_subscriber::registry().with(level_filter);
        let layer = fmt::layer().with_writer(queue.clone());
        let json = match log.format {
            LogFormat::Json => true,
            LogFormat::Text => false,
            LogFormat::Auto => !terminal,
        };
        let outcome = if json {
            let layer = layer.json().flatten_event(true).with_current_span(false).with_span_list(false);
            tracing::subscriber::set_global_default(registry.with(layer))
        } else {
            let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            tracing::subscriber::set_global_default(registry.with(layer.with_ansi(colours)))
        };
        // In a process that logs already, this log stays empty.
        drop(outcome);
        Ok(Self { queue, level: LevelSwitch(Some(level_handle)), writer: Some(writer) })
    }

    /// What moves its level.
    pub fn level(&self) -> LevelSwitch {
        self.level.clone()
    }

    /// Lines that found no room.
    pub fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.queue.dropped)
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        let mut asked = false;
        // These are the last lines, so they are waited for; not for ever, since nobody may read them.
        for _ in 0..LAST_LOOKS_MAX {
            asked = asked || !matches!(self.queue.lines.try_send(Entry::End), Err(TrySendError::Full(_)));
            if writer.is_finished() {
                // A writer that panicked has nothing more to say.
                let _ = writer.join();
                return;
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// One line under way; it is queued whole when it is dropped.
struct LineWriter {
    line: Vec<u8>,
    queue: Queue,
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter { line: Vec::new(), queue: self.clone() }
    }
}

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() && self.queue.lines.try_send(Entry::Line(line)).is_err() {
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes lines until the end, several with one call where several wait. The first after a pause comes out at once; after it
/// this looks for more only every few milliseconds, since at thousands of sessions a second a wake-up for each line
/// costs as much as the session.
fn write_out(received: &Receiver<Entry>, mut out: impl Write) {
    let mut batch = Vec::new();
    while let Ok(entry) = received.recv() {
        let mut next = Some(entry);
        let mut over = false;
        while let Some(entry) = next {
            match entry {
                Entry::Line(line) => batch.extend_from_slice(&line),
                Entry::End => over = true,
            }
            next = if over || batch.len() > BATCH_BYTES { None } else { received.try_recv().ok() };
        }
        let emptied = batch.len() <= BATCH_BYTES;
        // A log that cannot be written has nobody to tell; the next line may get through.
        let _ = out.write_all(&batch);
        batch.clear();
        if over {
            return;
        }
        if emptied {
            thread::sleep(LOOK_EVERY);
        }
    }
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

/// Lines that may wait for the writer: some megabytes.
const LINES_MAX: usize = 8_192;
const BATCH_BYTES: usize = 64 * 1024;
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Three seconds.
const LAST_LOOKS_MAX: usize = 600;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Takes nothing until its sender is dropped, as a pipe that nobody reads.
    struct Stalled(Receiver<()>);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_does_not_hold_the_end() {
        let (lines, received) = sync_channel(4);
        let queue = Queue { lines, dropped: Arc::default() };
        let (release, held) = std::sync::mpsc::channel();
        let writer = thread::spawn(move || write_out(&received, Stalled(held)));
        for _ in 0..20 {
            queue.make_writer().write_all(b"line\n").unwrap();
        }
        let (ended, end) = std::sync::mpsc::channel();
        thread::spawn(move || {
            drop(Logging { queue, level: LevelSwitch::default(), writer: Some(writer) });
            ended.send(()).unwrap();
        });
        end.recv_timeout(Duration::from_secs(60)).unwrap();
        drop(release);
    }

    #[test]
    fn the_last_lines_are_written() {
        let (lines, received) = sync_channel(100);
        let queue = Queue { lines, dropped: Arc::default() };
        let out = Shared::default();
        let written = out.clone();
        let writer = thread::spawn(move || write_out(&received, out));
        for _ in 0..100 {
            queue.make_writer().write_all(b"line\n").unwrap();
        }
        let dropped = Arc::clone(&queue.dropped);
        drop(Logging { queue, level: LevelSwitch::default(), writer: Some(writer) });
        let lost = usize::try_from(dropped.load(Ordering::Relaxed)).unwrap();
        assert_eq!(written.0.lock().unwrap().len(), (100 - lost) * 5);
    }

    #[test]
    fn lines_come_out_whole_and_what_finds_no_room_is_counted() {
        let (lines, received) = sync_channel(4);
        let queue = Queue { lines, dropped: Arc::default() };
        for number in 0..10 {
            let mut line = queue.make_writer();
            write!(line, "line ").unwrap();
            writeln!(line, "{number}").unwrap();
        }
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 6);
        let out = Shared::default();
        let written = out.clone();
        let writer = thread::spawn(move || write_out(&received, out));
        queue.lines.send(Entry::End).unwrap();
        writer.join().unwrap();
        assert_eq!(*written.0.lock().unwrap(), b"line 0\nline 1\nline 2\nline 3\n");
    }
}
