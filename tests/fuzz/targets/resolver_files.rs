//! `resolv.conf` and the hosts file, and a name to be looked up by them.
#![no_main]

use evenkeel::dns::{Hosts, Name, ResolvConf, candidates};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let conf = ResolvConf::parse(&text);
    assert!(!conf.servers.is_empty() && conf.servers.len() <= 3 && conf.search.len() <= 32);
    let hosts = Hosts::parse(&text);
    for word in text.split_ascii_whitespace().take(64) {
        if let Ok(name) = Name::parse(word) {
            assert_eq!(Name::parse(&name.to_string()), Ok(name.clone()));
            let names = candidates(&name, word.ends_with('.'), &conf.search, conf.ndots);
            assert!(names.contains(&name) && names.len() <= 33);
            assert!(hosts.lookup(&name).is_none_or(|known| !known.is_empty()));
        }
    }
});
