//! `resolv.conf` and the hosts file, looked at every second: whoever moves a laptop or a container need not reload anything.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use crate::config::settings::Dns;
use crate::dns::{Hosts, Name, ResolvConf};

/// One file, as it was read last.
#[derive(Debug, Default)]
struct Watched {
    path: String,
    mark: Option<[i64; 6]>,
    text: String,
}

impl Watched {
    fn new(path: &str) -> Self {
        Self { path: path.to_owned(), ..Self::default() }
    }

    /// Reads it if it is another than before; one that cannot be read is as it was. True: it is another.
    fn look(&mut self) -> bool {
        let mark = fs::metadata(&self.path).ok().map(|data| {
            // The numbers tell files apart, whatever their signs.
            #[allow(clippy::cast_possible_wrap)]
            let ids = [data.dev() as i64, data.ino() as i64, data.size() as i64];
            [ids[0], ids[1], ids[2], data.mtime(), data.mtime_nsec(), data.ctime_nsec()]
        });
        if mark.is_none() || mark == self.mark {
            return false;
        }
        let mut text = Vec::new();
        let read =
            fs::File::open(&self.path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut text));
        if read.is_err() {
            return false;
        }
        self.mark = mark;
        let text = String::from_utf8_lossy(&text).into_owned();
        let changed = text != self.text;
        self.text = text;
        changed
    }
}

/// What the files say that names are looked up by.
#[derive(Debug)]
pub(super) struct Files {
    resolv_conf: Watched,
    hosts: Option<Watched>,
    conf: ResolvConf,
    names: Arc<Hosts>,
}

impl Files {
    /// Reads them.
    pub(super) fn new(dns: &Dns) -> Self {
        let mut files = Self {
            resolv_conf: Watched::new(RESOLV_CONF),
            hosts: dns.hosts.as_deref().map(Watched::new),
            conf: ResolvConf::parse(""),
            names: Arc::default(),
        };
        files.look();
        files
    }

    /// Reads what has changed; true: something has.
    pub(super) fn look(&mut self) -> bool {
        let conf = self.resolv_conf.look();
        if conf {
            self.conf = ResolvConf::parse(&self.resolv_conf.text);
        }
        let hosts = self.hosts.as_mut().is_some_and(Watched::look);
        if hosts {
            self.names = Arc::new(Hosts::parse(self.hosts.as_ref().map_or("", |hosts| &hosts.text)));
        }
        conf || hosts
    }

    /// Whom to ask where the settings do not say it, and for what.
    pub(super) fn conf(&self) -> &ResolvConf {
        &self.conf
    }

    /// The names of the hosts file.
    pub(super) fn hosts(&self) -> &Arc<Hosts> {
        &self.names
    }
}

/// The domains as names; each was checked when the file was read.
pub(super) fn domains(search: &[String]) -> Vec<Name> {
    search.iter().filter_map(|domain| Name::parse(domain).ok()).collect()
}

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// More is not read.
const FILE_BYTES_MAX: u64 = 4 << 20;
