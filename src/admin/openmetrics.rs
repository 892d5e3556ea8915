//! OpenMetrics exposition format, which Prometheus scrapes. Pure: families and samples in, text out.

use std::fmt::{Display, Write};

/// What the text is called in HTTP.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A text under way. One family after the other, each with all its samples: the form forbids to come back to one.
#[derive(Debug, Default)]
pub(super) struct OpenMetrics {
    text: String,
}

impl OpenMetrics {
    /// Begins a family of counters; samples are named with `_total`.
    pub(super) fn counter(&mut self, name: &str, help: &str) {
        self.family(name, "counter", help);
    }

    /// Begins a family of values that go up and down.
    pub(super) fn gauge(&mut self, name: &str, help: &str) {
        self.family(name, "gauge", help);
    }

    /// Begins a family of distributions.
    pub(super) fn histogram(&mut self, name: &str, help: &str) {
        self.family(name, "histogram", help);
    }

    /// Begins a family of constant labels; samples are named with `_info`.
    pub(super) fn info(&mut self, name: &str, help: &str) {
        self.family(name, "info", help);
    }

    /// One sample of the family under way.
    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        if !labels.is_empty() {
            for (place, (label, value)) in labels.iter().enumerate() {
                self.text.push(if place == 0 { '{' } else { ',' });
                self.text.push_str(label);
                self.text.push_str("=\"");
                self.escape(value);
                self.text.push('"');
            }
            self.text.push('}');
        }
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, " {value}");
    }

    /// The samples of one distribution: counts per bucket, the last without a bound.
    pub(super) fn buckets(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        bounds_us: &[u64],
        counts: &[u64],
        sum_us: u64,
    ) {
        let bucket = format!("{name}_bucket");
        let mut so_far = 0;
        for (place, count) in counts.iter().enumerate() {
            so_far += count;
            let bound = bounds_us.get(place).map_or("+Inf".to_owned(), |us| (*us as f64 / 1e6).to_string());
            let mut labels = labels.to_vec();
            labels.push(("le", &bound));
            self.sample(&bucket, &labels, so_far);
        }
        self.sample(&format!("{name}_count"), labels, so_far);
        self.sample(&format!("{name}_sum"), labels, sum_us as f64 / 1e6);
    }

    /// The whole text.
    pub(super) fn finish(mut self) -> String {
        self.text.push_str("# EOF\n");
        self.text
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
        let _ = writeln!(self.text, "# HELP {name} {help}");
    }

    fn escape(&mut self, value: &str) {
        for character in value.chars() {
            match character {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                other => self.text.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_that_of_openmetrics() {
        let mut out = OpenMetrics::default();
        out.counter("a", "Things.");
        out.sample("a_total", &[("name", "x\"\\\ny")], 3);
        out.histogram("t", "Times.");
        out.buckets("t", &[("pool", "p")], &[1_000, 500_000], &[1, 2, 4], 2_500_000);
        let expected = "# TYPE a counter\n# HELP a Things.\na_total{name=\"x\\\"\\\\\\ny\"} 3\n\
            # TYPE t histogram\n# HELP t Times.\nt_bucket{pool=\"p\",le=\"0.001\"} 1\nt_bucket{pool=\"p\",le=\"0.5\"} 3\n\
            t_bucket{pool=\"p\",le=\"+Inf\"} 7\nt_count{pool=\"p\"} 7\nt_sum{pool=\"p\"} 2.5\n# EOF\n";
        assert_eq!(out.finish(), expected);
    }
}
