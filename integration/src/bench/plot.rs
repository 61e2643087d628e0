//! A small picture of the table: what kubelet-rs takes of what upstream takes.

use std::fmt::Write as _;

use super::figures::{Figures, Who};
use super::rows::{ROWS, unit};

const WIDTH: f64 = 860.0;
const BARS_AT: f64 = 430.0;
const BARS: f64 = 330.0;
const ROW: f64 = 40.0;

/// Two bars for each plotted row that both have figures for, the greater one as long as can be.
pub fn svg(figures: &Figures) -> String {
    let mut body = String::new();
    let mut top = 40.0;
    for row in ROWS.iter().filter(|row| row.plot) {
        let (Some(ours), Some(upstream)) = (row.value(figures, Who::KubeletRs), row.value(figures, Who::Upstream)) else { continue };
        let longest = ours.max(upstream).max(f64::MIN_POSITIVE);
        let _ = writeln!(body, r#"<text x="{}" y="{}" text-anchor="end">{}</text>"#, BARS_AT - 10.0, top + 18.0, escape(row.label));
        for (value, class, y) in [(ours, "ours", top), (upstream, "upstream", top + 14.0)] {
            // A bar that can't be seen would look like a figure that is missing.
            let length = (value / longest * BARS).max(1.5);
            let _ = writeln!(body, r#"<rect class="{class}" x="{BARS_AT}" y="{y}" width="{length:.1}" height="12"/>"#);
            let _ = writeln!(
                body,
                r#"<text class="value" x="{:.1}" y="{}">{}</text>"#,
                BARS_AT + length + 6.0,
                y + 10.5,
                unit(row.series).show(value)
            );
        }
        top += ROW;
    }
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" font-family="sans-serif" font-size="13">
<style>text {{ fill: #57606a }} .value {{ font-size: 11px }} .ours {{ fill: #cf5a1f }} .upstream {{ fill: #9aa7b5 }}</style>
<rect class="ours" x="{BARS_AT}" y="10" width="12" height="12"/><text x="{}" y="20.5">kubelet-rs</text>
<rect class="upstream" x="{}" y="10" width="12" height="12"/><text x="{}" y="20.5">kubelet + kube-proxy (shorter is better)</text>
{body}</svg>
"##,
        BARS_AT + 18.0,
        BARS_AT + 100.0,
        BARS_AT + 118.0,
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::super::figures::Series;
    use super::*;

    #[test]
    fn the_shorter_bar_is_in_proportion() {
        let mut figures = Figures::default();
        figures.add(Series::PodReady, Who::KubeletRs, 0.3);
        figures.add(Series::PodReady, Who::Upstream, 0.6);
        figures.add(Series::PodGone, Who::KubeletRs, 0.3);
        let svg = svg(&figures);
        assert!(svg.contains(r#"class="ours" x="430" y="40" width="165.0""#), "{svg}");
        assert!(svg.contains(r#"class="upstream" x="430" y="54" width="330.0""#), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 4, "a row that one of them has no figure for is left out: {svg}");
    }
}
