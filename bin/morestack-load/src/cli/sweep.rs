//! The options of `sweep`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Common, Config, Deep, Switch, Traffic, check_file, values, workers_or_default};
use crate::executor::{self, Contender, Kind};
use crate::units::Share;

/// The options of `sweep`, each by itself in range.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    common: Common,

    /// Loads, as percentages of the capacity, which is measured first
    #[arg(
        long,
        value_name = "LOADS",
        default_value = "10%,20%,30%,40%,50%,60%,70%,80%,90%,95%",
        value_delimiter = ',',
        value_parser = values::share_of_capacity,
        allow_hyphen_values = true
    )]
    loads: Vec<Share>,

    /// Time slices of Morestack; off is no preemption
    #[arg(
        long,
        value_name = "TIMES",
        default_value = "20us,100us,1ms,off",
        value_delimiter = ',',
        value_parser = values::slice,
        allow_hyphen_values = true
    )]
    slices: Vec<Switch<Duration>>,

    /// Executors: morestack, tokio, rayon, may, threads (one OS thread per request) [default: all that can run here]
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        value_parser = values::executor,
        allow_hyphen_values = true
    )]
    executors: Vec<Kind>,

    /// How long requests arrive and are measured at each load, for each executor and time slice
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = values::duration, allow_hyphen_values = true)]
    duration: u64,

    /// How long requests arrive before each part of that, unmeasured
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = values::warmup, allow_hyphen_values = true)]
    warmup: u64,

    /// Write the results as CSV; what it holds of the same sweep already is not measured again
    #[arg(long, value_name = "FILE", default_value = "sweep.csv")]
    csv: PathBuf,
}

/// A sweep, checked.
#[derive(Debug)]
pub struct Sweep {
    /// What is the same for all contenders and loads.
    pub config: Config,
    /// Shares of the capacity, rising.
    pub loads: Vec<Share>,
    /// Who is measured.
    pub contenders: Vec<Contender>,
    /// Where the CSV goes.
    pub csv: PathBuf,
    /// Where the page goes.
    pub html: PathBuf,
}

impl Options {
    /// The sweep they ask for, or why there cannot be one.
    pub fn check(self) -> Result<Sweep, String> {
        let common = self.common;
        let rising = self.loads.windows(2).all(|pair| pair[0].probability() < pair[1].probability());
        if !rising {
            let loads: Vec<String> = self.loads.iter().map(Share::to_string).collect();
            return Err(format!("--loads {}: each has to be higher than the one before", loads.join(",")));
        }
        let html = common.html.unwrap_or_else(|| self.csv.with_extension("html"));
        check_file("--html", Some(&html))?;
        check_file("--csv", Some(&self.csv))?;
        if html == self.csv {
            return Err(format!("--csv {0} and --html {0} are the same file", html.display()));
        }
        let config = Config {
            workers: workers_or_default(common.workers),
            traffic: Traffic::Poisson(common.service),
            duration: self.duration,
            warmup: self.warmup,
            deep: common.deep.map_or(Some(Deep::usual()), Switch::on),
            stack: common.stack,
            pin: common.pin,
            seed: common.seed,
            progress: common.progress,
        };
        let kinds = if self.executors.is_empty() { executor::available() } else { self.executors };
        let of_kind = |kind: Kind| match kind {
            Kind::Morestack => self.slices.iter().map(|slice| Contender { kind, slice: (*slice).on() }).collect(),
            peer => vec![Contender::peer(peer)],
        };
        let contenders: Vec<Contender> = kinds.into_iter().flat_map(of_kind).collect();
        config.check(&contenders)?;
        Ok(Sweep { config, loads: self.loads, contenders, csv: self.csv, html })
    }
}
