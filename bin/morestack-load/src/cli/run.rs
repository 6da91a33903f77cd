//! The options of `run`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Common, Config, Deep, Switch, Traffic, check_file, values, workers_or_default};
use crate::executor::{Contender, Kind};
use crate::trace::Trace;
use crate::units;

/// How long requests arrive unmeasured, in nanoseconds.
const WARMUP: u64 = 1_000_000_000;

/// How long they are measured, in nanoseconds.
const DURATION: u64 = 10_000_000_000;

/// The options of `run`, each by itself in range.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    common: Common,

    /// Arrivals per second, instead of --load
    #[arg(long, value_name = "R", value_parser = values::rate, allow_hyphen_values = true, conflicts_with = "load")]
    rate: Option<f64>,

    /// Arrivals as a share of the capacity, which is measured first [default: 0.7]
    #[arg(long, value_name = "L", value_parser = values::load, allow_hyphen_values = true)]
    load: Option<f64>,

    /// How long requests arrive and are measured [default: 10s, of a trace all of it]
    #[arg(long, value_name = "TIME", value_parser = values::duration, allow_hyphen_values = true)]
    duration: Option<u64>,

    /// How long requests arrive before that, unmeasured [default: 1s, of a trace 0s]
    #[arg(long, value_name = "TIME", value_parser = values::warmup, allow_hyphen_values = true)]
    warmup: Option<u64>,

    /// Replay a file of lines ARRIVAL SERVICE, like `120us 5us`, instead of drawing from --service
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rate", "load", "service"])]
    trace: Option<PathBuf>,

    /// How long a request runs before it can be preempted, or off
    #[arg(long, value_name = "TIME", default_value = "100us", value_parser = values::slice, allow_hyphen_values = true)]
    time_slice: Switch<Duration>,

    /// Play the same schedule on tokio, rayon, may and threads (one OS thread per request), in turn
    #[arg(long, value_name = "PEERS", value_parser = values::peer, value_delimiter = ',', allow_hyphen_values = true)]
    compare: Vec<Kind>,

    /// Write the results as JSON to a file, or to the standard output (-)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the percentiles of all latencies, in milliseconds, for HdrHistogram's plotter
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
}

/// How many requests arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Offered {
    /// So many per second.
    Rate(f64),
    /// A share of the capacity.
    Load(f64),
    /// What the trace says.
    Trace,
}

/// A run, checked.
#[derive(Debug)]
pub struct Run {
    /// What is the same for all contenders.
    pub config: Config,
    /// How many requests arrive.
    pub offered: Offered,
    /// Morestack, and the peers that it is compared with.
    pub contenders: Vec<Contender>,
    /// Where the JSON goes.
    pub json: Option<PathBuf>,
    /// Where the page goes.
    pub html: Option<PathBuf>,
    /// Where the percentiles go.
    pub hgrm: Option<PathBuf>,
}

impl Options {
    /// The run they ask for, or why there cannot be one.
    pub fn check(self) -> Result<Run, String> {
        let common = self.common;
        let trace = self.trace.as_deref().map(Trace::read).transpose()?;
        let is_trace = trace.is_some();
        let usual_deep = if is_trace { None } else { Some(Deep::usual()) };
        let warmup = self.warmup.unwrap_or(if is_trace { 0 } else { WARMUP });
        let duration = match (&trace, self.duration) {
            (_, Some(duration)) => duration,
            (Some(trace), None) => trace.end().saturating_sub(warmup).max(1),
            (None, None) => DURATION,
        };
        let offered = match (is_trace, self.rate, self.load) {
            (true, ..) => Offered::Trace,
            (_, Some(rate), _) => Offered::Rate(rate),
            (_, None, load) => Offered::Load(load.unwrap_or(0.7)),
        };
        if let Offered::Rate(rate) = offered
            && rate * duration as f64 / 1e9 < 1.0
        {
            return Err(format!("--rate {rate} for {} is less than one arrival", units::exact_time(duration)));
        }
        if let Some(trace) = &trace
            && trace.arrivals_in(warmup, warmup + duration) == 0
        {
            let warmup = units::exact_time(warmup);
            return Err(format!("--trace {}: nothing arrives after a warm-up of {warmup}", trace.path().display()));
        }
        check_file("--html", common.html.as_deref())?;
        check_file("--hgrm", self.hgrm.as_deref())?;
        let config = Config {
            workers: workers_or_default(common.workers),
            traffic: trace.map_or(Traffic::Poisson(common.service), Traffic::Trace),
            duration,
            warmup,
            deep: common.deep.map_or(usual_deep, Switch::on),
            stack: common.stack,
            pin: common.pin,
            seed: common.seed,
            progress: common.progress,
        };
        let own = Contender { kind: Kind::Morestack, slice: self.time_slice.on() };
        let peers = self.compare.into_iter().map(Contender::peer);
        let contenders: Vec<Contender> = [own].into_iter().chain(peers).collect();
        config.check(&contenders)?;
        Ok(Run { config, offered, contenders, json: self.json, html: common.html, hgrm: self.hgrm })
    }
}
