//! Log lines in the form that klog made known: `I1120 23:59:59.000000    4711 manager.rs:12] Message key="value"`, or as JSON.

use std::fmt;

use jiff::Timestamp;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, Logging};

/// Starts logging to standard error.
pub fn start(config: &Logging) {
    let level = match config.verbosity {
        0..=3 => LevelFilter::INFO,
        4..=5 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // Libraries speak of frames and streams; only their warnings are news.
    let targets = Targets::new().with_default(LevelFilter::WARN).with_target("kubelet_rs", level);
    let registry = tracing_subscriber::registry().with(targets);
    match config.format {
        LogFormat::Text => registry.with(layer().with_writer(std::io::stderr).with_ansi(false).event_format(Klog)).init(),
        LogFormat::Json => registry.with(layer().with_writer(std::io::stderr).json().flatten_event(true)).init(),
    }
}

/// The text form.
struct Klog;

impl<S, N> FormatEvent<S, N> for Klog
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        header(&mut out, event.metadata(), Timestamp::now())?;
        ctx.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

fn header(out: &mut impl fmt::Write, metadata: &Metadata<'_>, now: Timestamp) -> fmt::Result {
    let letter = match *metadata.level() {
        Level::ERROR => 'E',
        Level::WARN => 'W',
        Level::INFO | Level::DEBUG | Level::TRACE => 'I',
    };
    let time = now.to_zoned(jiff::tz::TimeZone::UTC);
    let file = metadata.file().and_then(|f| f.rsplit('/').next()).unwrap_or_default();
    let line = metadata.line().unwrap_or_default();
    write!(out, "{letter}{} {:>7} {file}:{line}] ", time.strftime("%m%d %H:%M:%S%.6f"), std::process::id())
}
