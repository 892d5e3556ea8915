//! Times, numbers and addresses as other balancers write them.

/// A time in milliseconds. `bare_ms`: how many a number without a unit is.
pub(super) fn milliseconds(text: &str, bare_ms: u64) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|one: char| one.is_ascii_digit()).len();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.len() - rest.trim_start_matches(|one: char| one.is_ascii_alphabetic()).len();
        let unit = match &rest[..letters] {
            "" => bare_ms,
            "us" => return Some(total + number / 1_000),
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            "M" => 2_592_000_000,
            "y" => 31_536_000_000,
            _ => return None,
        };
        rest = rest[letters..].trim_start();
        total = total.checked_add(number.checked_mul(unit)?)?;
    }
    Some(total)
}

/// A time as our file writes it, within these bounds.
pub(super) fn duration(ms: u64, (least, most): (u64, u64)) -> String {
    let ms = ms.clamp(least, most);
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let unit = units.iter().find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{ms}ms"), |(unit, word)| format!("{}{word}", ms / unit))
}

/// A number that a limit may be.
pub(super) fn is_count(text: &str) -> bool {
    text.parse::<u32>().is_ok_and(|count| (1..=10_000_000).contains(&count))
}

/// A name as ours may be: without what stands between names in commands.
pub(super) fn name(text: &str) -> String {
    let bad = |one: char| {
        one.is_whitespace()
            || one.is_control()
            || matches!(one, '"' | '\'' | '`' | '/' | '\\' | '$' | '{' | '}')
    };
    let name: String = text.chars().take(100).map(|one| if bad(one) { '-' } else { one }).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

/// A network as ours are written.
pub(super) fn network(text: &str) -> Option<String> {
    match text {
        "all" | "any" | "0/0" => return Some("0.0.0.0/0".to_owned()),
        _ => {}
    }
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let ip: std::net::IpAddr = address.parse().ok()?;
    let Some(bits) = bits else { return Some(ip.to_string()) };
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let bits: u32 = match bits.parse() {
        Ok(bits) => bits,
        // HAProxy takes a mask as well.
        Err(_) => {
            let mask: std::net::Ipv4Addr = bits.parse().ok()?;
            let mask = mask.to_bits();
            (mask.leading_ones() + mask.trailing_zeros() == 32).then_some(mask.leading_ones())?
        }
    };
    if bits > most {
        return None;
    }
    // Our file wants the bits behind the network to be zero.
    let ip: std::net::IpAddr = match ip {
        std::net::IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            std::net::Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        std::net::IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            std::net::Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    };
    Some(format!("{ip}/{bits}"))
}

/// HOST and PORT of `host:port`, `[::1]:80`, `::1:80` (HAProxy); a port may be a range.
pub(super) fn host_and_port(text: &str) -> (String, Option<String>) {
    if let Some(rest) = text.strip_prefix('[')
        && let Some((host, port)) = rest.split_once(']')
    {
        return (host.to_owned(), port.strip_prefix(':').map(str::to_owned).filter(|port| !port.is_empty()));
    }
    match text.rsplit_once(':') {
        Some((host, port)) => (host.to_owned(), Some(port.to_owned()).filter(|port| !port.is_empty())),
        None => (text.to_owned(), None),
    }
}

/// An address with its port as ours are written.
pub(super) fn joined(host: &str, port: Option<&str>) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
}

/// `unix@/path`, `fd@3`, `quic4@:443`: no address.
pub(super) fn is_of_another_kind(text: &str) -> bool {
    text.split_once('@').is_some_and(|(kind, _)| !kind.contains('$'))
}

/// A backend may be there: an address or a host name, with a port or without.
pub(super) fn is_backend(host: &str, port: Option<&str>) -> bool {
    let bare = host.strip_suffix('.').unwrap_or(host);
    let is_name = is_name(host)
        && !bare.split('.').next_back().is_some_and(|last| last.bytes().all(|one| one.is_ascii_digit()));
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let ip = host.parse::<std::net::IpAddr>();
    let is_host = ip.map_or(is_name, |ip| {
        !ip.is_unspecified() && !ip.is_multicast() && ip != std::net::Ipv4Addr::BROADCAST
    });
    is_port && is_host
}

/// A host name, by its letters.
pub(super) fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|one| one.is_ascii_alphanumeric() || one == b'-' || one == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let bare = host.strip_suffix('.').unwrap_or(host);
    bare.len() <= 253 && bare.split('.').all(is_label)
}

/// Least and most of times in our file, in milliseconds.
pub(super) const IDLE: (u64, u64) = (100, 2_592_000_000);
pub(super) const CONNECT: (u64, u64) = (10, 120_000);
pub(super) const INTERVAL: (u64, u64) = (100, 3_600_000);
pub(super) const CHECK_TIMEOUT: (u64, u64) = (10, 60_000);
pub(super) const QUEUE: (u64, u64) = (10, 3_600_000);
pub(super) const GRACE: (u64, u64) = (0, 86_400_000);
pub(super) const SLOW_START: (u64, u64) = (1_000, 3_600_000);
pub(super) const EJECT: (u64, u64) = (100, 3_600_000);
