//! What a run has found, as a file that programs read, and from which the report is made.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// Of the form of the file.
pub(crate) const VERSION: u32 = 1;

/// The experiments, by what the paper calls their figures.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Experiment {
    /// Echo latency (Fig. 5)
    Echo,
    /// Echo with a synchronous log (Fig. 7)
    Log,
    /// Throughput by message size (Fig. 8)
    Sizes,
    /// UDP relay (Fig. 10)
    Relay,
    /// Key-value with and without persistence (Fig. 11)
    KeyValue,
}

impl Experiment {
    /// All of them, in the paper's order.
    pub(crate) const ALL: [Experiment; 5] =
        [Experiment::Echo, Experiment::Log, Experiment::Sizes, Experiment::Relay, Experiment::KeyValue];

    /// The paper's figure.
    pub(crate) fn figure(self) -> u32 {
        match self {
            Experiment::Echo => 5,
            Experiment::Log => 7,
            Experiment::Sizes => 8,
            Experiment::Relay => 10,
            Experiment::KeyValue => 11,
        }
    }
}

/// A run.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Results {
    /// [`VERSION`].
    pub(crate) version: u32,
    pub(crate) machine: Machine,
    pub(crate) plan: Plan,
    /// Transports of demikernel, and why one is not here.
    pub(crate) transports: Vec<Transport>,
    /// Single figures, in the order in which they were measured.
    pub(crate) figures: Vec<Figure>,
    /// What was not measured.
    pub(crate) absent: Vec<Absent>,
}

/// Where it was.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// The name of the virtual machine, if it is one.
    pub(crate) virtual_machine: Option<String>,
    /// How the frequency of the processor is chosen, if the kernel says.
    pub(crate) governor: Option<String>,
    pub(crate) memory_mib: u64,
    pub(crate) free_huge_pages: u64,
    /// Where logs are written.
    pub(crate) file_system: String,
    /// Processes that ran or wanted to, before the first round and after each.
    pub(crate) load: Vec<f64>,
    /// How long a cache line takes between the two cores and back, in ns, before each round.
    pub(crate) cache_line: Vec<f64>,
    /// Programs that were measured or measured others, with their versions.
    pub(crate) programs: BTreeMap<String, String>,
}

/// How long it was.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    /// For each measurement of a latency; others follow from it.
    pub(crate) milliseconds: u64,
    pub(crate) experiments: Vec<Experiment>,
    pub(crate) unix_time: u64,
}

/// A transport of demikernel.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Transport {
    pub(crate) name: String,
    /// Why it is not here.
    pub(crate) missing: Option<String>,
}

/// One figure.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Figure {
    pub(crate) experiment: Experiment,
    /// See `systems`.
    pub(crate) system: String,
    /// A protocol, a size, a command.
    pub(crate) case: String,
    /// `p50`, `p99` and `mean` in ns, `rate` in 1/s.
    pub(crate) metric: String,
    pub(crate) round: usize,
    pub(crate) value: f64,
}

/// Something that was not measured, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Absent {
    pub(crate) experiment: Experiment,
    pub(crate) system: String,
    /// Empty: all of them.
    pub(crate) case: String,
    pub(crate) why: String,
}

impl Results {
    /// Reads a file of this version.
    ///
    /// # Errors
    /// `InvalidData` that says what is wrong with it.
    pub(crate) fn read(path: &Path) -> io::Result<Results> {
        let wrong =
            |text: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {text}", path.display()));
        let text = fs::read_to_string(path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        Results::parse(&text).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Results, String> {
        let results: Results = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if results.version != VERSION {
            return Err(format!("version {}, and this program reads {VERSION}", results.version));
        }
        Ok(results)
    }

    /// Writes it.
    ///
    /// # Errors
    /// Those of files.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, serde_json::to_string_pretty(self)? + "\n")
    }

    /// One metric of one system by round.
    pub(crate) fn series(
        &self,
        experiment: Experiment,
        system: &str,
        case: &str,
        metric: &str,
    ) -> BTreeMap<usize, f64> {
        let is_it = |figure: &&Figure| {
            figure.experiment == experiment
                && figure.system == system
                && figure.case == case
                && figure.metric == metric
        };
        self.figures.iter().filter(is_it).map(|figure| (figure.round, figure.value)).collect()
    }

    /// Why a system has no figure of this case.
    pub(crate) fn why_absent(&self, experiment: Experiment, system: &str, case: &str) -> Option<&str> {
        let is_it = |absent: &&Absent| {
            absent.experiment == experiment
                && absent.system == system
                && (absent.case.is_empty() || absent.case == case)
        };
        self.absent.iter().find(is_it).map(|absent| absent.why.as_str())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A recorded run.
    pub(crate) const RECORDED: &str = include_str!("../tests/recorded.json");

    #[test]
    fn a_file_of_another_version_or_form_is_refused() {
        let later = RECORDED.replacen("\"version\": 1", "\"version\": 2", 1);
        let error = Results::parse(&later).err().expect("it is not read");
        assert_eq!(error, "version 2, and this program reads 1");
        assert!(Results::parse("{}").err().expect("it is not read").contains("missing field"));
        let other = RECORDED.replacen("\"metric\"", "\"measure\"", 1);
        assert!(Results::parse(&other).err().expect("it is not read").contains("unknown field `measure`"));
    }

    #[test]
    fn what_is_written_is_read() {
        let results = Results::parse(RECORDED).unwrap();
        let again = Results::parse(&serde_json::to_string(&results).unwrap()).unwrap();
        assert_eq!(again.figures, results.figures);
        assert_eq!(again.absent, results.absent);
    }
}
