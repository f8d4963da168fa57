//! `dec merge`: joins clusters of a finished run, without training.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{ArgGroup, Args};
use dec::backend::DeviceRequest;
use dec::config::{Config, Threads};
use dec::data::{Dataset, Reading};
use dec::metrics::Contingency;
use dec::model::Groups;
use dec::report::text_table;
use dec::run::{read_config, Assignment, Content, Merged, Model, Passed, RunDir, ASSIGNMENTS, ONNX};

use super::finished;
use super::recipe::{free, read_data};

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("how").required(true))]
pub struct MergeArgs {
    /// The directory of a finished run; it is left as it is
    #[arg(value_name = "RUN")]
    run: PathBuf,

    /// Join clusters until this many are left, each time the two that the model tells apart least
    #[arg(long, value_name = "K", group = "how")]
    to: Option<usize>,

    /// Join these clusters, as in 3,5 or 3,5,8; may be repeated
    #[arg(long, value_name = "CLUSTERS", group = "how")]
    join: Vec<String>,

    /// The new run directory [default: RUN-merged-K beside it]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Write over the run that --out holds
    #[arg(long, requires = "out")]
    force: bool,

    /// The rows that the run was trained on, where they are no longer where they were; "-" for standard input
    #[arg(short, long, value_name = "DATA")]
    data: Option<String>,

    /// Labels to score against: one a row in an NPY, IDX, CSV or text file [default: the run's]
    #[arg(short, long, value_name = "FILE")]
    labels: Option<PathBuf>,

    /// Where to compute: auto, cpu, cuda, cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,

    /// Threads that compute on the CPU: a number, or auto (OMP_NUM_THREADS, else every processor that this program may
    /// use)
    #[arg(long, value_name = "N", default_value = "auto", allow_negative_numbers = true)]
    threads: String,
}

impl MergeArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        let request: DeviceRequest = self.device.parse()?;
        let threads: Threads = self.threads.parse()?;
        threads.given().map_or(Ok(()), dec::backend::threads::check)?;
        let lists = self.join.iter().map(|list| numbers(list)).collect::<dec::Result<Vec<_>>>()?;
        let summary = finished::summary_of(&self.run)?;
        let mut config = read_config(&self.run)?;
        let device = dec::backend::select(request)?;
        super::recipe::set_threads(threads)?;
        let model = Model::load(&self.run, device)?;
        let [k, _] = model.shape();
        let joined = match self.to {
            // Before the rows are read, which may take long.
            Some(to) if to == 0 || to >= k => return Err(no_such_number(to, k).into()),
            Some(_) => None,
            None => Some(Groups::joined(k, &lists)?),
        };
        let left = self.to.or(joined.as_ref().map(Groups::n_clusters)).unwrap_or(k);
        let out = self.out.clone().unwrap_or_else(|| default_out(&self.run, left));
        self.check_out(&out)?;

        let path = self.run.join(ASSIGNMENTS);
        let before = path.exists().then(|| Assignment::read(&path)).transpose()?;
        self.choose_data(&mut config)?;
        let dataset = load(&config, &model).context(
            "a merged run gets the clusters of its rows anew, so these are read again (--data says where they are now)",
        )?;
        let passed = Passed::through(&model, &dataset, before.as_ref())
            .context("a merged run needs the rows that the run was trained on (--data names them)")?;
        let old = passed.labels()?;
        let groups = match joined {
            Some(joined) => joined,
            None => Groups::by_overlap(&passed.q, left)?,
        };
        let merged = Merged::of(model, groups, passed)?;
        let scores = scores(&merged, &dataset, &old)?;

        let dir = RunDir::create(&out, self.force)?;
        config.output.onnx |= self.run.join(ONNX).exists();
        let from = std::path::absolute(&self.run).unwrap_or_else(|_| self.run.clone());
        let new = scores.as_ref().map(|[_, new]| new);
        dir.write_merged(&merged, &config, &merged.summary(&summary, &from.to_string_lossy(), new))?;
        super::print(&page(&merged, &old, scores.as_ref(), &out))
    }

    /// Refuses a directory that holds something, and the run's own.
    fn check_out(&self, out: &Path) -> dec::Result<()> {
        if super::same_place(out, &self.run) {
            return Err(dec::Error::output(out, "is the run itself, which stays as it is; name another with --out"));
        }
        match RunDir::content(out) {
            Content::Nothing => Ok(()),
            _ if self.force => Ok(()),
            Content::Results | Content::Unfinished => Err(dec::Error::output(
                out,
                "this directory holds a run; name another with --out, or write over what is there with --force",
            )),
        }
    }

    /// Applies `--data` and `--labels`.
    fn choose_data(&self, config: &mut Config) -> dec::Result<()> {
        let data = &mut config.data;
        if let Some(source) = &self.data {
            data.source.clone_from(source);
            data.more = Vec::new();
        } else if data.source == "-" && std::io::stdin().is_terminal() {
            let problem = "the rows of this run came from a program, or by standard input: name them with --data";
            return Err(dec::Error::Config(problem.to_owned()));
        }
        if let Some(labels) = &self.labels {
            data.labels = Some(labels.clone());
        } else if let Some(gone) = data.labels.take_if(|labels| !labels.exists()) {
            tracing::warn!("{} is gone: there are no scores (--labels names another file)", gone.display());
        }
        config.absolutise();
        Ok(())
    }
}

/// The numbers of `--join`.
fn numbers(list: &str) -> dec::Result<Vec<usize>> {
    let number = |text: &str| {
        text.trim().parse().map_err(|_| {
            dec::Error::Config(format!("--join {list:?}: give numbers of clusters with commas between, as in 3,5"))
        })
    };
    list.split(',').map(number).collect()
}

fn no_such_number(to: usize, k: usize) -> dec::Error {
    let room = if k > 1 { format!("give 1 to {}", k - 1) } else { "nothing can be joined".to_owned() };
    let clusters = if k == 1 { "cluster" } else { "clusters" };
    dec::Error::Config(format!("--to {to}: the run has {k} {clusters}; {room}"))
}

/// `RUN-merged-K`, with a number behind it where that is taken.
fn default_out(run: &Path, k: usize) -> PathBuf {
    // "." and ".." have no name of their own.
    let run = run.canonicalize().unwrap_or_else(|_| run.to_owned());
    let name = run.file_name().map_or_else(|| "run".into(), |name| name.to_string_lossy().into_owned());
    free(&run.with_file_name(format!("{name}-merged-{k}")))
}

/// The run's rows, read as its model reads rows.
fn load(config: &Config, model: &Model) -> dec::Result<Dataset> {
    let reading = Reading { intake: Some(&model.intake), names: &model.columns, ..config.data.reading() };
    read_data(config, reading)
}

/// How the clusters before and now compare with the classes, where rows have some.
fn scores(merged: &Merged, dataset: &Dataset, old: &[i64]) -> dec::Result<Option<[Contingency; 2]>> {
    let Some(classes) = dataset.labels.as_deref().filter(|classes| classes.iter().any(|&class| class >= 0)) else {
        return Ok(None);
    };
    let truth: Vec<i64> = merged.assignment.rows.iter().filter_map(|&row| classes.get(row).copied()).collect();
    if truth.iter().all(|&class| class < 0) {
        return Ok(None);
    }
    Ok(Some([Contingency::of_labelled(&truth, old)?, merged.against(classes)?]))
}

/// What became of each cluster, how many rows moved, and the scores.
fn page(merged: &Merged, old: &[i64], scores: Option<&[Contingency; 2]>, out: &Path) -> String {
    let new = &merged.assignment.labels;
    let size = |labels: &[i64], cluster: usize| labels.iter().filter(|&&label| label == cluster as i64).count();
    let cluster_of = merged.groups.cluster_of();
    let names = &merged.model.names;
    let mut table = vec![["cluster", "rows", "becomes", "rows"].map(str::to_owned).to_vec()];
    for (cluster, &becomes) in cluster_of.iter().enumerate() {
        table.push([cluster, size(old, cluster), becomes, size(new, becomes)].map(|n| n.to_string()).to_vec());
    }
    if !names.is_empty() {
        table[0].push("name".to_owned());
        let name = |&becomes: &usize| super::shown(names.get(becomes).unwrap_or(""));
        table[1..].iter_mut().zip(cluster_of).for_each(|(row, becomes)| row.push(name(becomes)));
    }
    let mut text = text_table(&table) + "\n";
    let stays = |(&old, &new): &(&i64, &i64)| cluster_of.get(old as usize).is_some_and(|&of| of as i64 == new);
    let moved = old.iter().zip(new).filter(|pair| !stays(pair)).count();
    if moved > 0 {
        text += &format!(
            "{moved} rows that were of another cluster have more of a joined one now: of its q, which is the sum of its parts'\n\n"
        );
    }
    if let Some([before, now]) = scores {
        let scores = |name: &str, of: &Contingency| {
            let values = [of.accuracy(), of.normalized_mutual_info(), of.adjusted_rand_index()];
            std::iter::once(name.to_owned()).chain(values.map(|value| format!("{value:.4}"))).collect()
        };
        let header = ["", "ACC", "NMI", "ARI"].map(str::to_owned).to_vec();
        text += &(text_table(&[header, scores("before", before), scores("merged", now)]) + "\n");
    }
    text + &format!("run directory: {}\n", out.display())
}
