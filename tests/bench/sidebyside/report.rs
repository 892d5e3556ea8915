//! What was found, as a table for people, as JSON for programs and as a picture.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::rows::ROWS;

/// One proxy in one row.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) row: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) peer: String,
    /// CPU microseconds for each unit, round by round; empty for what has no proxy.
    pub(crate) cpu_us: Vec<f64>,
    /// Units each second, round by round.
    pub(crate) per_s: Vec<f64>,
    /// Other figures, round by round.
    pub(crate) figures: Vec<(&'static str, Vec<f64>)>,
    /// Evenkeel's CPU to this one's, round by round.
    pub(crate) ratios: Vec<f64>,
    /// Rounds in which most was lost.
    pub(crate) lost: usize,
}

/// Where and when.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) text: String,
}

impl Machine {
    pub(crate) fn here(versions: &[(String, String)]) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        // This process has but one of them by now.
        let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown CPU");
        let kernel = read("/proc/sys/kernel/osrelease");
        let versions: Vec<String> =
            versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let date = std::process::Command::new("date").arg("+%Y-%m-%d").output();
        let date =
            date.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
        Self {
            text: format!(
                "{cores} cores of {}; Linux {}; {}; {date}",
                cpu.trim_start_matches([' ', '\t', ':']).trim(),
                kernel.trim(),
                versions.join(", ")
            ),
        }
    }
}

/// The one in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn spread(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(*value), high.max(*value)))
}

/// For a terminal of 120 columns.
pub(crate) fn table(lines: &[Line], machine: &Machine) -> String {
    let mut text = format!("{}\n\n", machine.text);
    let _ = writeln!(
        text,
        "{:<26} {:>10} {:>18} {:>12}  OTHER FIGURES",
        "PROXY", "CPU us", "EVENKEEL TO IT", "A SECOND"
    );
    let mut row = "";
    for line in lines {
        if line.row != row {
            row = line.row;
            let _ = writeln!(text, "\n{row}, each {}", line.unit);
        }
        let cpu = median(&line.cpu_us).map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.2}"));
        let ratio = median(&line.ratios).map_or_else(
            || "-".to_owned(),
            |middle| {
                let (low, high) = spread(&line.ratios);
                format!("{middle:.2} ({low:.2}-{high:.2})")
            },
        );
        let per_s = median(&line.per_s).unwrap_or(0.0);
        let figures: Vec<String> = line
            .figures
            .iter()
            .filter_map(|(name, values)| Some(format!("{name} {}", shown(median(values)?))))
            .collect();
        let _ =
            writeln!(text, "  {:<24} {cpu:>10} {ratio:>18} {per_s:>12.0}  {}", line.peer, figures.join(", "));
    }
    let _ = writeln!(
        text,
        "\nCPU time of all processes of the proxy for each unit, medians of rounds in turn; in brackets the lowest and highest\n\
         ratio. Less than 1: evenkeel needs less. Only the ratios of one run mean anything."
    );
    text
}

fn shown(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

pub(crate) fn json(lines: &[Line], machine: &Machine) -> Value {
    let of = |line: &Line| {
        let figures: serde_json::Map<String, Value> =
            line.figures.iter().map(|(name, values)| ((*name).to_owned(), json!(median(values)))).collect();
        json!({
            "row": line.row,
            "unit": line.unit,
            "peer": line.peer,
            "cpu_us": median(&line.cpu_us),
            "cpu_us_rounds": line.cpu_us,
            "per_s": median(&line.per_s),
            "ratio": median(&line.ratios),
            "ratio_rounds": line.ratios,
            "figures": figures,
        })
    };
    json!({ "machine": machine.text, "lines": lines.iter().map(of).collect::<Vec<_>>() })
}

/// A table for a page: what evenkeel needs, and its ratio to each other.
pub(crate) fn markdown(lines: &[Line], machine: &Machine) -> String {
    let mut peers: Vec<&str> = Vec::new();
    for line in lines.iter().filter(|line| !line.ratios.is_empty()) {
        if !peers.contains(&line.peer.as_str()) {
            peers.push(&line.peer);
        }
    }
    let mut text = format!("| work | evenkeel | {} |\n|---|---|", peers.join(" | "));
    peers.iter().for_each(|_| text.push_str("---|"));
    for ours in lines.iter().filter(|line| line.peer == "evenkeel") {
        let cpu = median(&ours.cpu_us).unwrap_or(0.0);
        let _ = write!(text, "\n| {} | {} us per {} |", ours.row, three_digits(cpu), ours.unit);
        for peer in &peers {
            let theirs = lines.iter().find(|line| line.row == ours.row && line.peer == *peer);
            let ratio = theirs.and_then(|line| median(&line.ratios));
            let _ = match ratio {
                Some(ratio) => write!(text, " {ratio:.2} |"),
                None => write!(text, " - |"),
            };
        }
    }
    let _ = writeln!(text, "\n\n{}", machine.text);
    text
}

fn three_digits(value: f64) -> String {
    match value {
        0.0..1.0 => format!("{value:.3}"),
        1.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Bars of what evenkeel needs of each other's CPU, by row; only those of a run without `--full`, since more are no picture.
pub(crate) fn svg(lines: &[Line], machine: &Machine) -> String {
    let is_headline = |line: &&Line| ROWS.iter().any(|row| row.headline && row.name == line.row);
    let shown: Vec<(&Line, f64)> = lines
        .iter()
        .filter(|line| !line.peer.starts_with("evenkeel"))
        .filter(is_headline)
        .filter_map(|line| Some((line, median(&line.ratios)?)))
        .collect();
    let mut body = String::new();
    let (mut y, mut row) = (64, "");
    for (line, ratio) in &shown {
        if line.row != row {
            row = line.row;
            y += 14;
            let _ = writeln!(body, "<text class=\"row\" x=\"12\" y=\"{y}\">{}</text>", escaped(row));
            y += 16;
        }
        let width = (ratio.min(1.6) * 300.0).round();
        let class = if *ratio <= 1.0 { "less" } else { "more" };
        let _ = writeln!(
            body,
            "<text x=\"24\" y=\"{y}\">{}</text><rect class=\"{class}\" x=\"230\" y=\"{}\" width=\"{width}\" height=\"11\"/>\
             <text x=\"{}\" y=\"{y}\">{ratio:.2}</text>",
            escaped(&line.peer),
            y - 10,
            238.0 + width
        );
        y += 17;
    }
    let height = y + 30;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"780\" height=\"{height}\" viewBox=\"0 0 780 {height}\" role=\"img\">\n\
         <style>text{{font:12px sans-serif;fill:#222}}.row{{font-weight:bold}}.less{{fill:#2a78b5}}.more{{fill:#b5602a}}\
         line{{stroke:#888;stroke-dasharray:3 3}}rect.back{{fill:#fff}}</style>\n<rect class=\"back\" width=\"780\" height=\"{height}\"/>\n\
         <text class=\"row\" x=\"12\" y=\"22\">CPU time of evenkeel, as a share of what the other needs for the same work</text>\n\
         <text x=\"12\" y=\"40\">{}</text>\n<line x1=\"530\" y1=\"54\" x2=\"530\" y2=\"{}\"/><text x=\"520\" y=\"52\">1.00</text>\n{body}</svg>\n",
        escaped(&machine.text),
        height - 20
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Evenkeel's ratios now and in an earlier run, each to the same peer of its own run: the machine may have been another.
pub(crate) fn compare(now: &Value, before: &Value) -> String {
    let mut text =
        format!("{:<44} {:>10} {:>10} {:>8}\n", "ROW: CPU to the same peer", "BEFORE", "NOW", "CHANGE");
    let lines = |value: &Value| value["lines"].as_array().cloned().unwrap_or_default();
    for line in lines(now) {
        let same = |other: &&Value| other["row"] == line["row"] && other["peer"] == line["peer"];
        let earlier = lines(before);
        let Some(then) = earlier.iter().find(same) else { continue };
        if let (Some(now), Some(then)) = (line["ratio"].as_f64(), then["ratio"].as_f64()) {
            let name =
                format!("{}: {}", line["row"].as_str().unwrap_or(""), line["peer"].as_str().unwrap_or(""));
            let _ =
                writeln!(text, "{name:<64} {then:>8.2} {now:>8.2} {:>+7.1} %", (now / then - 1.0) * 100.0);
        }
    }
    text
}

/// Writes all of them beside each other.
pub(crate) fn write(folder: &Path, lines: &[Line], machine: &Machine) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("table.txt"), table(lines, machine))?;
    std::fs::write(folder.join("table.md"), markdown(lines, machine))?;
    std::fs::write(folder.join("result.json"), format!("{:#}\n", json(lines, machine)))?;
    std::fs::write(folder.join("chart.svg"), svg(lines, machine))
}
