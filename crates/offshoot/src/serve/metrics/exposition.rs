//! Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write as _};

/// A text that families of metrics are appended to, each with its samples.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
    family: &'static str,
}

impl Exposition {
    /// A family begins: its name, type and what it tells.
    pub(super) fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A sample of the family.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.suffixed("", labels, value);
    }

    /// A sample whose name goes on behind that of the family, as those of histograms do.
    pub(super) fn suffixed(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.text, "{}{suffix}", self.family);
        for (number, (name, value)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{name}=\"{}\"", escaped(value));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{after} {value}");
    }

    /// The text.
    pub(super) fn into_text(self) -> String {
        self.text
    }
}

/// The value of a label as it is written.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_as_prometheus_reads_them() {
        let mut exposition = Exposition::default();
        exposition.family("up", "gauge", "Whether it is.");
        exposition.sample(&[], 1);
        exposition.sample(&[("a", "x\"y\\z\n"), ("b", "")], 0.5);
        let expected =
            "# HELP up Whether it is.\n# TYPE up gauge\nup 1\nup{a=\"x\\\"y\\\\z\\n\",b=\"\"} 0.5\n";
        assert_eq!(exposition.into_text(), expected);
    }
}
