//! Job of systemd: is this stop a stop, or half of a restart? The manager tells over D-Bus, of which three calls are
//! spoken here.
//!
//! That it cannot be asked (D-Bus is silent, out of reach or not understood, descriptors have run out) is none of the two:
//! what follows of that is the caller's to say.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::dbus::{self, Value};

/// What a stop by the manager is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopKind {
    /// The first half of a restart: it keeps what is left with it.
    Restart,
    /// For good; or it keeps nothing, which comes to the same.
    ForGood,
    /// It could not be asked.
    Unknown,
}

/// What is this stop?
pub async fn stop_kind() -> StopKind {
    let answer = timeout(ANSWER_MAX, ask()).await;
    match answer {
        Ok(Ok(true)) => StopKind::Restart,
        Ok(Ok(false)) => StopKind::ForGood,
        Ok(Err(error)) => {
            tracing::warn!(target: "evenkeel", %error, "whether this is a restart is not known, since D-Bus does not answer: it is taken for one, so that no session ends for that");
            StopKind::Unknown
        }
        Err(_) => {
            tracing::warn!(target: "evenkeel", "whether this is a restart is not known, since D-Bus is silent: it is taken for one, so that no session ends for that");
            StopKind::Unknown
        }
    }
}

/// Does the manager stop this service to start it again, and does it keep what was left with it?
async fn ask() -> io::Result<bool> {
    let mut bus = Bus::connect().await?;
    let unit =
        bus.call(SYSTEMD, MANAGER_PATH, MANAGER, "GetUnitByPID", &[Value::U32(std::process::id())]).await?;
    let unit = text(&unit, 0)?;
    let kept = bus.property(&unit, "org.freedesktop.systemd1.Service", "NFileDescriptorStore").await?;
    if !matches!(kept.first(), Some(Value::U32(count)) if *count >= PARK_ENDS) {
        tracing::warn!(target: "evenkeel", "the service manager keeps nothing for this service: a restart ends its sessions; the unit needs FileDescriptorStoreMax=");
        return Ok(false);
    }
    let job = bus.property(&unit, "org.freedesktop.systemd1.Unit", "Job").await?;
    // A job's number and path; none is 0.
    if matches!(job.first(), Some(Value::U32(0)) | None) {
        return Ok(false);
    }
    let kind = bus.property(&text(&job, 1)?, "org.freedesktop.systemd1.Job", "JobType").await?;
    Ok(matches!(&*text(&kind, 0)?, "restart" | "try-restart"))
}

struct Bus {
    stream: UnixStream,
    serial: u32,
}

impl Bus {
    async fn connect() -> io::Result<Self> {
        let address = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_default();
        let path = address.strip_prefix("unix:path=").and_then(|rest| rest.split([',', ';']).next());
        let mut stream = UnixStream::connect(path.unwrap_or("/run/dbus/system_bus_socket")).await?;
        let uid = crate::sys::unix::own_uid().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes()).await?;
        let mut said = Vec::new();
        while !said.ends_with(b"\r\n") {
            if said.len() > LINE_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            said.push(stream.read_u8().await?);
        }
        if !said.starts_with(b"OK ") {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "D-Bus does not let this user in"));
        }
        stream.write_all(b"BEGIN\r\n").await?;
        let mut bus = Self { stream, serial: 0 };
        bus.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", &[])
            .await?;
        Ok(bus)
    }

    async fn property(&mut self, path: &str, interface: &str, name: &str) -> io::Result<Vec<Value>> {
        let arguments = [Value::Text(interface.to_owned()), Value::Text(name.to_owned())];
        self.call(SYSTEMD, path, "org.freedesktop.DBus.Properties", "Get", &arguments).await
    }

    async fn call(
        &mut self,
        to: &str,
        path: &str,
        interface: &str,
        member: &str,
        arguments: &[Value],
    ) -> io::Result<Vec<Value>> {
        self.serial += 1;
        let call = dbus::Call { serial: self.serial, to, path, interface, member, arguments };
        self.stream.write_all(&call.encode()).await?;
        loop {
            let mut head = [0; dbus::HEAD_BYTES];
            self.stream.read_exact(&mut head).await?;
            let rest = dbus::rest_bytes(&head).ok_or(io::ErrorKind::InvalidData)?;
            let mut body = vec![0; rest];
            self.stream.read_exact(&mut body).await?;
            let answer = dbus::decode(&head, &body).ok_or(io::ErrorKind::InvalidData)?;
            // Signals come in between.
            if answer.reply_to == Some(self.serial) {
                return answer.outcome.map_err(|name| io::Error::other(format!("{member}: {name}")));
            }
        }
    }
}

fn text(values: &[Value], at: usize) -> io::Result<String> {
    match values.get(at) {
        Some(Value::Text(text)) => Ok(text.clone()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// The two ends of the stash.
const PARK_ENDS: u32 = 2;
const ANSWER_MAX: Duration = Duration::from_secs(1);
const LINE_MAX: usize = 512;
