//! Search list: what a short name may stand for.

use super::Name;

/// The names to be asked for in turn, until one is there. One that ends in a dot is never extended.
pub fn candidates(name: &Name, is_absolute: bool, search: &[Name], ndots: usize) -> Vec<Name> {
    if is_absolute {
        return vec![name.clone()];
    }
    let mut names: Vec<Name> = search.iter().filter_map(|domain| name.below(domain)).collect();
    let at = if name.dots() >= ndots { 0 } else { names.len() };
    names.insert(at, name.clone());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_extended_first_and_long_ones_last() {
        let search = ["lan", "example.org"].map(|name| Name::parse(name).unwrap());
        let of = |name: &str, ndots| {
            let names = candidates(&Name::parse(name).unwrap(), name.ends_with('.'), &search, ndots);
            names.iter().map(Name::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of("db", 1), ["db.lan", "db.example.org", "db"]);
        assert_eq!(of("db.x", 1), ["db.x", "db.x.lan", "db.x.example.org"]);
        assert_eq!(of("db.x", 5), ["db.x.lan", "db.x.example.org", "db.x"]);
        assert_eq!(of("db.", 1), ["db"]);
    }
}
