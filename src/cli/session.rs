//! A run in this process: the machine set up, the data read, signals and the terminal at hand; from its first stage or from a
//! checkpoint.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use dec::backend::{device_name, ranks, threads};
use dec::choose::KRange;
use dec::config::{changed_keys, earliest_use, Config, Recipe, Use};
use dec::control::{Control, Event, Observer};
use dec::data::Dataset;
use dec::estimator::set_up_machine;
use dec::report::{self, results_table, Sample, TensorBoard};
use dec::run::{
    weights_sha256, Checkpoint, Checkpoints, EventLog, Fitted, Identity, Keeper, Moment, Part, RunDir, SharedParts,
    Summary, Trainer, EVENTS,
};
use dec::state::{Run, StageId, State};
use dec::DecValidParams;

use super::choose_k;
use super::console::{Console, Progress};
use super::interrupt;
use super::recipe::{classes_of, load_data};

/// Everything that can be refused before a directory is made.
pub struct Session {
    recipe: Recipe,
    trainer: Trainer,
    identity: Identity,
    /// Numbers of clusters to choose from before the first stage, where nobody gave one.
    range: Option<KRange>,
    /// The rows that the report shows.
    sample: Option<Sample>,
    /// What is trained once for several runs.
    shared: Option<SharedParts>,
}

/// Who says how many clusters there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClustersBy {
    /// The recipe.
    Recipe,
    /// The labels, where there are some with classes; else the recipe.
    Labels,
    /// Nobody: they are looked for.
    Search,
}

/// From where a run starts.
pub enum Start {
    /// Its first stage.
    New,
    /// What an earlier process left.
    Checkpoint(Box<Checkpoint>),
}

impl Session {
    /// Sets up machine and data for `recipe`.
    pub fn prepare(mut recipe: Recipe, by: ClustersBy) -> anyhow::Result<Self> {
        ranks::join()?;
        let device = set_up_machine(&recipe.config)?;
        let dataset = load_data(&recipe.config)?;
        let range = (by == ClustersBy::Search).then(KRange::default);
        if let Some(range) = range {
            recipe.config.n_clusters = choose_k::check(range, &recipe.config, &dataset)?.from();
        }
        let classes = classes_of(&dataset).filter(|_| by == ClustersBy::Labels);
        if let Some(classes) = classes.filter(|&classes| classes != recipe.config.n_clusters) {
            tracing::info!(
                "{classes} clusters, as many as the labels have classes (--clusters asks for another number)"
            );
            recipe.config.n_clusters = classes;
        }
        let identity = Identity {
            recipe: recipe.name.clone(),
            data: dataset.name.clone(),
            rows_sha256: rows_sha256(&dataset)?,
            labels_sha256: dataset.labels_sha256(),
            start_sha256: recipe.config.start.from.as_deref().map(weights_sha256).transpose()?,
            device: device_name(device),
            threads: threads::count(),
        };
        let trainer = DecValidParams::of_recipe(recipe.clone())?.trainer(&dataset, device)?;
        recipe.config.n_clusters = trainer.task().config.n_clusters; // those of a run to start from, and new ones
        let output = &recipe.config.output;
        let shown = (output.report || output.tensorboard).then(|| Sample::of(&dataset, &trainer.task().order));
        Ok(Self { recipe, trainer, identity, range, sample: shown.transpose()?, shared: None })
    }

    /// Shares what other runs train alike, by way of the directory `dir`.
    #[must_use]
    pub fn sharing(mut self, dir: Option<&Path>) -> Self {
        let dir = dir.filter(|_| {
            let alone = ranks::world().size() == 1;
            if !alone {
                tracing::warn!("--share does nothing where several processes train together");
            }
            alone
        });
        self.shared = dir.map(|dir| SharedParts::new(dir, self.identity.clone()));
        self
    }

    /// Refuses changes of settings that have mattered already in the run that `checkpoint` is of.
    pub fn check_changes(&self, before: &Config, after: &Config, checkpoint: &Checkpoint) -> dec::Result<()> {
        let reached = self.trainer.stages()[..=checkpoint.cursor().min(self.trainer.stages().len() - 1)]
            .iter()
            .map(|&stage| use_of(stage))
            .chain(checkpoint.is_pretrained().then_some(Use::Finetuning))
            .max()
            .unwrap_or(Use::Always);
        let too_late = changed_keys(before, after)?.into_iter().find(|key| earliest_use(key) <= reached);
        match too_late {
            Some(key) => Err(dec::Error::Config(format!(
                "--set {key}: the run has come past where this setting matters; start a new run to change it"
            ))),
            None => Ok(()),
        }
    }

    /// Runs to the end, in the directory that `directory` makes for a recipe's name.
    pub fn start(
        mut self,
        console: &Console,
        directory: impl FnOnce(&str) -> dec::Result<RunDir>,
        start: Start,
    ) -> anyhow::Result<()> {
        let task = self.trainer.task();
        let (device, every) = (task.rows.device(), Duration::from_secs(self.recipe.config.checkpoint.every_secs));
        let ranks = ranks::world();
        if let (Start::Checkpoint(checkpoint), true) = (&start, ranks.is_first()) {
            checkpoint.identity().check(&self.identity)?; // another may compute on another GPU
        }
        ranks.wait()?; // nobody looks for files any more, and the first may make them
        if !ranks.is_first() {
            return self.follow(&start);
        }
        let dir = directory(&self.recipe.name)?;
        let chosen = match self.range {
            Some(range) => Some(self.choose(range, &dir, console)?),
            None => None,
        };
        let config = self.recipe.config.to_toml()?;
        let stages = self.trainer.stages().len();
        let keep = self.recipe.config.checkpoint.keep;
        let mut checkpoints = Checkpoints::new(dir.path(), self.identity.clone(), config, stages, every, keep);
        if matches!(start, Start::New) {
            checkpoints.try_save(self.trainer.state()); // a run that is killed at once can go on too
        }
        let mut log = match (&start, chosen) {
            (Start::New, Some(log)) => log,
            (Start::New, None) => EventLog::create(&dir.file(EVENTS))?,
            (Start::Checkpoint(checkpoint), _) => {
                let state = checkpoint.state(self.trainer.task(), device)?;
                self.trainer.restore(state);
                EventLog::resume(&dir.file(EVENTS), checkpoint.events())?
            }
        };
        ranks.wait()?; // all have read the checkpoint that they go on from
        dir.write_config(&self.recipe.config)?;
        self.announce(&dir, &start);
        interrupt::save_first();
        log.describe(self.trainer.task());
        let started = Instant::now();
        let mut observer = RunObserver::new(console, log);
        observer.board = self.recipe.config.output.tensorboard.then(|| TensorBoard::open(dir.path())).transpose()?;
        let log = Rc::clone(&observer.log);
        let ended = {
            let mut keeper = Saver { checkpoints: &mut checkpoints, log: &log, shared: self.shared.take() };
            run_to_the_end(&mut self.trainer, &mut observer, &mut keeper)
        };
        observer.finish();
        let board = observer.board;
        self.finish(&dir, &checkpoints, ended.err(), started, board)
    }

    /// Trains with the process that writes, as one of several that were started together.
    fn follow(mut self, start: &Start) -> anyhow::Result<()> {
        interrupt::save_first();
        if let Some(range) = self.range {
            self.trainer.pretrain(&mut Stoppable)?;
            let choice = self.trainer.choose_k(range, &mut Stoppable)?;
            self.trainer.set_clusters(choice.recommended)?;
        }
        if let Start::Checkpoint(checkpoint) = start {
            let task = self.trainer.task();
            let state = checkpoint.state(task, task.rows.device())?;
            self.trainer.restore(state);
        }
        ranks::world().wait()?;
        run_to_the_end(&mut self.trainer, &mut Stoppable, &mut ())?;
        Ok(())
    }

    /// Pretrains, looks for the number of clusters, and takes what is recommended. Returns the log, in which the run goes on. Until it is
    /// done there is nothing to resume.
    fn choose(&mut self, range: KRange, dir: &RunDir, console: &Console) -> anyhow::Result<EventLog> {
        interrupt::save_first();
        let (choice, log) = choose_k::look(&mut self.trainer, range, dir, console)?;
        self.recipe.config.n_clusters = choice.recommended;
        self.trainer.set_clusters(choice.recommended)?;
        choose_k::write_choice(dir, &choice, &self.recipe, &self.trainer.task().data_name)?;
        tracing::info!("{choice}");
        Ok(log)
    }

    fn announce(&self, dir: &RunDir, start: &Start) {
        let task = self.trainer.task();
        let how = match start {
            Start::New => "writing to",
            Start::Checkpoint(_) => "going on in",
        };
        let processes = match ranks::world().size() {
            1 => String::new(),
            size => format!(" in {size} processes"),
        };
        tracing::info!(
            "{}: {} rows of {} features, {} clusters, on {}{processes}; {how} {}",
            task.data_name,
            task.n_rows(),
            task.n_features(),
            task.config.n_clusters,
            self.identity.device,
            dir.path().display()
        );
        warn_of_little_room(dir, &task.widths(), &task.config);
    }

    /// Writes what was reached, shows it, and passes on how training ended.
    fn finish(
        &self,
        dir: &RunDir,
        checkpoints: &Checkpoints,
        ended: Option<dec::Error>,
        started: Instant,
        board: Option<TensorBoard>,
    ) -> anyhow::Result<()> {
        let reached = self.trainer.reached();
        let mut summary = {
            let (sum, seconds) = (self.identity.rows_sha256.clone(), started.elapsed().as_secs_f64());
            Summary::new(&self.recipe, &self.trainer, sum, ended.as_ref(), seconds)
        };
        let written = dir.write_outcome(&reached, &self.recipe.config, &mut summary);
        // Nothing is left to go on with: finished, or collapsed with the start as the result.
        let complete =
            ended.is_none() || (reached.assignment.is_some() && !matches!(ended, Some(dec::Error::Interrupted)));
        if complete && written.is_ok() {
            checkpoints.remove_all();
        }
        if written.is_ok() {
            self.write_report(dir, ended.as_ref(), board);
        }
        let results = &reached.state.results;
        let mut text = if results.is_empty() { String::new() } else { results_table(results) + "\n" };
        for rollback in &reached.state.rollbacks {
            text += &format!("{rollback}\n");
        }
        text += &format!("run directory: {}\n", dir.path().display());
        let shown = super::print(&text);
        if written.is_ok() && matches!(ended, Some(dec::Error::Interrupted)) {
            tracing::warn!(
                "interrupted; what was reached until then is saved in {0}: `dec resume {0}` goes on",
                dir.path().display()
            );
        }
        // How training ended weighs more than that it could not be written, and that more than that nobody reads the table.
        if let Some(ended) = ended {
            return Err(ended.into());
        }
        written?;
        shown
    }
}

impl Session {
    /// The report comes after everything else is safe: without it nothing is lost, and `dec report` makes it again.
    fn write_report(&self, dir: &RunDir, ended: Option<&dec::Error>, board: Option<TensorBoard>) {
        let Some(sample) = &self.sample else { return };
        // Whoever stopped the run does not wait for a map.
        let sample = (!matches!(ended, Some(dec::Error::Interrupted))).then_some(sample);
        if let (Some(mut board), Some(sample)) = (board, sample) {
            if let Err(problem) = board.end(dir.path(), sample) {
                tracing::warn!("TensorBoard is without the end of the run: {problem}");
            }
        }
        if !self.recipe.config.output.report {
            return;
        }
        match report::write(dir.path(), &[], sample, None, &mut Control::new(&mut Stoppable)) {
            Ok(page) => tracing::info!("the report: {}", page.display()),
            Err(problem) => {
                tracing::warn!("no report ({problem}); `dec report {}` makes it again", dir.path().display());
            }
        }
    }
}

/// The SHA-256 of the rows, which the first process reads for all.
fn rows_sha256(dataset: &Dataset) -> dec::Result<String> {
    const LENGTH: usize = 64;
    let ranks = ranks::world();
    let own = if ranks.is_first() { dataset.rows_sha256()?.into_bytes() } else { vec![0; LENGTH] };
    let all: Vec<u8> = ranks.join(&own, (ranks.size() * LENGTH) as i64)?;
    Ok(String::from_utf8_lossy(&all[..LENGTH]).into_owned())
}

/// The settings that a stage goes by.
fn use_of(stage: StageId) -> Use {
    match stage {
        StageId::KMeansRaw | StageId::KMeans => Use::Always,
        StageId::Autoencoder { .. } | StageId::Layer { .. } => Use::Pretraining,
        StageId::Finetune { .. } => Use::Finetuning,
        StageId::FineSearch { .. }
        | StageId::OverCluster { .. }
        | StageId::Search { .. }
        | StageId::Elect
        | StageId::Warm => Use::Start,
        StageId::Cluster => Use::SelfTraining,
    }
}

/// Says at once if the disk has no room for the run's files.
fn warn_of_little_room(dir: &RunDir, widths: &[i64], config: &Config) {
    let weights: i64 = widths.windows(2).map(|pair| 2 * 4 * pair[0] * pair[1]).sum();
    // Weights and model; of a checkpoint the network, the optimiser's state and the copy to go back to, twice.
    let needed = (2 + 8 * (config.checkpoint.keep as u64 + 1)) * weights.unsigned_abs();
    if let Some(free) = dir.free_bytes().filter(|&free| free < needed) {
        tracing::warn!(
            "{} has {:.1} MB free, and this run may write {:.1} MB: make room while it trains",
            dir.path().display(),
            free as f64 / 1e6,
            needed as f64 / 1e6
        );
    }
}

/// Runs every stage. Memory that runs out inside the network is a panic of tch: it ends the run as a failure, so that what
/// was reached is saved all the same.
fn run_to_the_end(trainer: &mut Trainer, observer: &mut dyn Observer, keeper: &mut dyn Keeper) -> dec::Result<Fitted> {
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| trainer.run_and_keep(observer, keeper)));
    ran.unwrap_or_else(|payload| Err(dec::Error::from_payload(&*payload)))
}

/// Saves checkpoints, and tries again to write events that could not be written.
struct Saver<'a> {
    checkpoints: &'a mut Checkpoints,
    log: &'a RefCell<EventLog>,
    shared: Option<SharedParts>,
}

impl Keeper for Saver<'_> {
    fn keep(&mut self, run: &Run, moment: Moment) {
        if moment != Moment::Piece {
            self.log.borrow_mut().flush();
        }
        self.checkpoints.keep(run, moment);
    }

    fn take(&mut self, run: &Run, part: Part, control: &Control) -> dec::Result<Option<State>> {
        match &mut self.shared {
            Some(shared) => shared.take(run, part, &mut self.log.borrow_mut(), control),
            None => Ok(None),
        }
    }

    fn share(&mut self, run: &Run, part: Part) {
        if let Some(shared) = &mut self.shared {
            shared.share(run, part, &self.log.borrow());
        }
    }
}

/// Shows progress, logs events, and passes signals on.
pub struct RunObserver {
    progress: Progress,
    log: Rc<RefCell<EventLog>>,
    board: Option<TensorBoard>,
    /// Whether SIGUSR1 has asked for a checkpoint that was not tried yet.
    save: bool,
}

impl RunObserver {
    /// Into `log`.
    pub fn new(console: &Console, log: EventLog) -> Self {
        Self { progress: console.progress(), log: Rc::new(RefCell::new(log)), board: None, save: false }
    }

    /// Takes the bar away, and writes what is left of the log.
    pub fn finish(&mut self) {
        self.progress.finish();
        self.log.borrow_mut().flush();
    }

    /// [`RunObserver::finish`], and the log; `None` while somebody else has it too.
    pub fn into_log(mut self) -> Option<EventLog> {
        self.finish();
        Rc::into_inner(self.log).map(RefCell::into_inner)
    }
}

/// Knows when somebody wants the end, and nothing else.
pub struct Stoppable;

impl Observer for Stoppable {
    fn on_event(&mut self, _: &Event) {}

    fn should_stop(&self) -> bool {
        interrupt::requested()
    }
}

impl Observer for RunObserver {
    fn on_event(&mut self, event: &Event) {
        self.log.borrow_mut().on_event(event);
        self.progress.on_event(event);
        if let Some(board) = &mut self.board {
            board.on_event(event);
        }
        self.save |= interrupt::take_save_request();
    }

    fn should_stop(&self) -> bool {
        interrupt::requested()
    }

    fn should_save(&self) -> bool {
        self.save
    }

    fn saved(&mut self) {
        self.save = false;
        tracing::info!("a checkpoint was asked for and tried");
    }
}
