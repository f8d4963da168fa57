//! A run from rows to clusters: next stage from the state, advance it, tell the observer, save if due.

use std::time::{Duration, Instant};

use tch::{Device, Tensor};

use super::fitted::{input_order, rows_at, Assignment, Fitted, Image, Model, Reached};
use super::keeper::{Keeper, Moment, Part};
use crate::choose::{self, Choice, KRange};
use crate::config::{CheckedConfig, Config};
use crate::control::{Control, Deadline, Event, Method, Observer, StageName, StageTime};
use crate::data::{array_of, values_of, Dataset};
use crate::error::{Collapse, Error, Result};
use crate::metrics;
use crate::model::{copies, encode_all, set_parameters, ClusteringLayer, Network, Profile};
use crate::stage::cluster::{below_start, collapse};
use crate::stage::{self, score, Done, Stage};
use crate::state::{Cache, Run, StageId, State, Task};

/// Seconds that an interrupted run may take to assign the rows by the weights that it has.
const EARLY_END: Duration = Duration::from_millis(2500);

/// Trains on one data set. What was reached at any moment can be had from [`Trainer::reached`].
#[derive(Debug)]
pub struct Trainer {
    run: Run,
    stages: Vec<StageId>,
    concluded: Option<Concluded>,
}

/// The rows as the weights at the end assign them.
#[derive(Debug)]
struct Concluded {
    assignment: Assignment,
    q: Tensor,
    z: Tensor,
    layer: ClusteringLayer,
    profile: Profile,
}

impl Trainer {
    /// Checks that `dataset` can be clustered, shuffles its rows from the seed, and makes the list of stages.
    ///
    /// # Errors
    /// [`Error::Rows`] for rows that cannot be clustered, or a libtorch failure.
    pub fn new(config: &CheckedConfig, dataset: &Dataset, device: Device) -> Result<Self> {
        let task = Task::new(config, dataset, device)?;
        let stages = stage::list(&task);
        let run = Run { task, state: State::default(), cache: Cache::default() };
        Ok(Self { run, stages, concluded: None })
    }

    /// Goes on from a state that an earlier process reached on the same task.
    pub fn restore(&mut self, state: State) {
        self.run.state = state;
    }

    /// What the run is about.
    pub fn task(&self) -> &Task {
        &self.run.task
    }

    /// The state as it is.
    pub fn state(&self) -> &State {
        &self.run.state
    }

    /// The stages, in their order.
    pub fn stages(&self) -> &[StageId] {
        &self.stages
    }

    /// Pretrains the first network as the recipe says, fine-tuning included. [`Trainer::run`] goes on from there and does not
    /// pretrain it again.
    ///
    /// # Errors
    /// As for [`Trainer::run`].
    pub fn pretrain(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.together(observer, |trainer, control| {
            for id in stage::pretraining(&trainer.run.task, 0) {
                trainer.run_stage(id, control, &mut ())?;
            }
            trainer.run.state.cursor = 0;
            trainer.run.state.pretrained = true;
            Ok(())
        })
    }

    /// Does `work`, which all processes that train together do at the same time. One that was told to stop tells the others.
    fn together<T>(
        &mut self,
        observer: &mut dyn Observer,
        work: impl FnOnce(&mut Self, &mut Control) -> Result<T>,
    ) -> Result<T> {
        let control = &mut Control::together(observer);
        control.count_from(self.run.state.events);
        let done = work(self, control);
        if matches!(done, Err(Error::Interrupted)) {
            control.leave();
        }
        done
    }

    /// Looks for the number of clusters in the latent rows of the first network, which [`Trainer::pretrain`] has trained. The weights
    /// stay as they are.
    ///
    /// # Errors
    /// [`Error::Config`] for numbers that the rows cannot be clustered into, [`Error::Interrupted`], latent rows that cannot be
    /// clustered, or a libtorch failure.
    pub fn choose_k(&mut self, range: KRange, observer: &mut dyn Observer) -> Result<Choice> {
        self.together(observer, |trainer, control| {
            control.enter(StageName::ChooseK, 0.0);
            let choice = choose::choose(&mut trainer.run, range, control)?;
            let time = StageTime { name: StageName::ChooseK.to_string(), seconds: control.seconds(), steps: 1 };
            control.tell(&Event::StageFinished { stage: StageName::ChooseK, time: &time });
            trainer.run.state.stages.push(time);
            trainer.note(control);
            Ok(choice)
        })
    }

    /// Clusters into `k` from here on. Pretraining does not depend on it.
    ///
    /// # Errors
    /// [`Error::Config`] for 0.
    pub fn set_clusters(&mut self, k: usize) -> Result<()> {
        let config = Config { n_clusters: k, ..self.run.task.config.clone().into_inner() };
        self.run.task.config = config.check()?;
        self.stages = stage::list(&self.run.task);
        Ok(())
    }

    /// Runs every stage that is left.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where the observer asked to stop; [`Error::Diverged`], [`Error::Collapsed`] or
    /// [`Error::Training`] for training that failed. What was reached until then is still here.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<Fitted> {
        self.run_and_keep(observer, &mut ())
    }

    /// [`Trainer::run`], with somebody who keeps the state.
    ///
    /// # Errors
    /// As for [`Trainer::run`].
    pub fn run_and_keep(&mut self, observer: &mut dyn Observer, keeper: &mut dyn Keeper) -> Result<Fitted> {
        self.together(observer, |trainer, control| trainer.run_stages(control, keeper))
    }

    fn run_stages(&mut self, control: &mut Control, keeper: &mut dyn Keeper) -> Result<Fitted> {
        let before = if self.run.state.pretrained { stage::pretraining(&self.run.task, 0) } else { Vec::new() };
        let mut resumed = true; // or new: this process knows of no part yet
        while let Some(&id) = self.stages.get(self.run.state.cursor) {
            if before.contains(&id) {
                self.run.state.cursor += 1;
                continue;
            }
            self.share_parts(keeper);
            let done = match self.take_part(id, resumed, control, keeper) {
                Ok(true) => continue,
                Ok(false) => self.run_stage(id, control, keeper),
                Err(problem) => Err(problem),
            };
            resumed = false;
            match done {
                Err(problem) if self.can_do_without(id, &problem) => self.drop_network(id, &problem),
                Err(Error::Interrupted) => {
                    keeper.keep(&self.run, Moment::Stopped);
                    control.leave();
                    self.end_early();
                    return Err(Error::Interrupted);
                }
                done => done?,
            }
        }
        if let Err(problem) = self.conclude(control) {
            if matches!(problem, Error::Interrupted) {
                keeper.keep(&self.run, Moment::Stopped);
            }
            return Err(problem);
        }
        control.ranks().meet(false, false, 0)?; // one may have been told to stop; but all is done
        self.fitted()
    }

    /// Takes a part that begins here, or that a `resumed` run is within, from whoever has made it. Says whether there was one.
    fn take_part(
        &mut self,
        id: StageId,
        resumed: bool,
        control: &mut Control,
        keeper: &mut dyn Keeper,
    ) -> Result<bool> {
        if resumed && self.run.state.cursor + 1 < self.stages.len() {
            if let Some(state) = keeper.take(&self.run, Part::Start, control)? {
                self.run.state = state;
                self.run.cache = Cache::default();
                control.count_from(self.run.state.events);
                keeper.keep(&self.run, Moment::StageEnd);
                return Ok(true);
            }
        }
        let Some(network) = stage::pretrains(id) else { return Ok(false) };
        let (first, behind) = self.pretraining_of(network);
        if !resumed && self.run.state.cursor > first {
            return Ok(false);
        }
        let told = self.run.state.events;
        self.announce_network(id, control);
        self.note(control);
        let part = keeper.take(&self.run, Part::Autoencoder(network), control);
        self.run.state.events = told; // the announcement counts once the network is there
        if let Some(part) = part? {
            let state = &mut self.run.state;
            let known = state.stages.len().saturating_sub(state.cursor - first);
            state.stages.truncate(known); // of layers that the part has too
            state.stages.extend(part.stages);
            state.rollbacks.retain(|own| !part.rollbacks.contains(own));
            state.rollbacks.extend(part.rollbacks);
            state.networks.resize_with(network, || None);
            state.networks.truncate(network);
            state.networks.extend(part.networks.into_iter().nth(network));
            (state.training, state.seconds, state.cursor, state.events) = (None, 0.0, behind, part.events);
            self.run.cache = Cache { input_graph: self.run.cache.input_graph.take(), ..Cache::default() };
            control.count_from(part.events);
            keeper.keep(&self.run, Moment::StageEnd);
            return Ok(true);
        }
        Ok(false)
    }

    /// Lets others have the parts that end here.
    fn share_parts(&self, keeper: &mut dyn Keeper) {
        let (state, list) = (&self.run.state, &self.stages);
        if state.training.is_some() || state.cursor == 0 {
            return;
        }
        let before = stage::pretrains(list[state.cursor - 1]);
        if let Some(network) = before.filter(|network| self.pretraining_of(*network).1 == state.cursor) {
            keeper.share(&self.run, Part::Autoencoder(network));
        }
        if state.cursor + 1 == list.len() && state.self_training.is_none() {
            keeper.share(&self.run, Part::Start);
        }
    }

    /// The places of a network's first stage of pretraining, and of the stage behind its last.
    fn pretraining_of(&self, network: usize) -> (usize, usize) {
        let of_it = |id: &StageId| stage::pretrains(*id) == Some(network);
        let first = self.stages.iter().position(of_it).unwrap_or(self.stages.len());
        (first, first + self.stages[first..].iter().take_while(|id| of_it(id)).count())
    }

    /// One stage, from where the state has it to its end.
    fn run_stage(&mut self, id: StageId, control: &mut Control, keeper: &mut dyn Keeper) -> Result<()> {
        let mut work = stage::begin(id, &mut self.run, control)?;
        self.note(control); // the network is there now, and is not announced again
        if let Some(name) = stage::name(id) {
            control.enter(name, self.run.state.seconds);
            control.tell(&Event::StageStarted { stage: name, steps: work.total() });
            if let Some(training) = &self.run.state.training {
                control.tell(&Event::Step { done: training.counters.done });
            }
        }
        let steps = loop {
            let started = Instant::now();
            let advanced = control.agree().and_then(|_| work.advance(&mut self.run, control));
            self.run.state.seconds += started.elapsed().as_secs_f64();
            if advanced.is_ok() {
                self.note(control); // what an interrupted piece has told comes again
            }
            match advanced {
                Ok(Done::All(steps)) => break steps,
                Ok(Done::More) => self.offer(&*work, control, keeper)?,
                Err(Error::Interrupted) => {
                    work.save(&mut self.run)?;
                    return Err(Error::Interrupted);
                }
                Err(problem) => return Err(problem),
            }
        };
        self.finish_stage(id, steps, work, control)?;
        self.note(control);
        keeper.keep(&self.run, Moment::StageEnd);
        Ok(())
    }

    /// After a piece of a stage: lets the keeper save.
    fn offer(&mut self, work: &dyn Stage, control: &mut Control, keeper: &mut dyn Keeper) -> Result<()> {
        work.save(&mut self.run)?;
        let wanted = control.should_save();
        keeper.keep(&self.run, if wanted { Moment::Wanted } else { Moment::Piece });
        if wanted {
            control.saved();
        }
        Ok(())
    }

    fn finish_stage(&mut self, id: StageId, steps: u64, work: Box<dyn Stage>, control: &mut Control) -> Result<()> {
        if let Some(name) = stage::name(id) {
            let time = StageTime { name: name.to_string(), seconds: self.run.state.seconds, steps };
            control.tell(&Event::StageFinished { stage: name, time: &time });
            self.run.state.stages.push(time);
        }
        work.close(&mut self.run, control)?;
        self.check_ranks(id, control)?;
        self.run.state.seconds = 0.0;
        self.run.state.cursor += 1;
        Ok(())
    }

    /// Makes sure that processes that train together have come to the same.
    fn check_ranks(&self, id: StageId, control: &Control) -> Result<()> {
        let networks = self.run.state.networks.iter().flatten().flat_map(|network| network.parameters());
        let centroids = self.run.state.layer.iter().map(|layer| layer.centroids().shallow_clone());
        let what = stage::name(id).map_or_else(|| "the vote".to_owned(), |name| name.to_string());
        control.ranks().check_same(networks.chain(centroids), &what)
    }

    /// Takes over what `control` has counted.
    fn note(&mut self, control: &mut Control) {
        self.run.state.rollbacks.extend(control.take_rollbacks());
        self.run.state.events = control.told();
    }

    /// Says that a further network begins.
    fn announce_network(&self, id: StageId, control: &mut Control) {
        let state = &self.run.state;
        let Some(network) = id.network().filter(|&network| network > 0 && network >= state.networks.len()) else {
            return;
        };
        let networks = stage::networks(&self.run.task) as u64;
        control.tell(&Event::NetworkStarted { network: network as u64 + 1, networks });
    }

    /// Whether the run can go on without the network that failed: all but the first only have a say in the start.
    fn can_do_without(&self, id: StageId, problem: &Error) -> bool {
        let failed = matches!(problem, Error::Training(_) | Error::Diverged { .. } | Error::Collapsed { .. });
        failed && id.network().is_some_and(|network| network > 0)
    }

    /// Goes on with the stages behind those of a network that failed.
    fn drop_network(&mut self, id: StageId, problem: &Error) {
        let Some(network) = id.network() else { return };
        let text = format!("network {} has no say in the start: {problem}", network + 1);
        tracing::warn!("{text}");
        let state = &mut self.run.state;
        state.warnings.push(text);
        state.networks.resize_with(network + 1, || None);
        state.networks[network] = None;
        state.candidates.retain(|candidate| candidate.network != Some(network));
        (state.training, state.layer, state.clusters, state.plans, state.seconds) = (None, None, None, 0, 0.0);
        self.run.cache.latent = None;
        let of_it = |stage: &StageId| stage.network() == Some(network);
        let behind = self.stages[state.cursor..].iter().take_while(|stage| of_it(stage)).count();
        state.cursor += behind.max(1);
    }

    /// The network that is reported: the first until there was a vote.
    fn network(&self) -> Option<&dyn Network> {
        self.run.state.networks.get(self.run.state.chosen)?.as_deref()
    }

    /// Assigns every row by the weights at the end, and scores that; or keeps the start where self-training collapsed.
    fn conclude(&mut self, control: &mut Control) -> Result<()> {
        let Some((labels, concluded)) = self.assign(control)? else { return Ok(()) };
        let k = self.run.task.config.n_clusters;
        let start = self.run.state.self_training.as_ref().map(|begun| begun.start.labels.as_slice());
        if let Some(problem) = start.and_then(|start| collapse(start, &labels, k)) {
            self.or_as_it_was(|trainer| trainer.keep_start(control))?;
            let problem = format!("{problem}; the first assignment is kept as the result");
            return Err(Error::Collapsed { of: Collapse::Clusters, problem });
        }
        if let Some(text) = below_start(&mut self.run, &labels, control)? {
            return self.or_as_it_was(|trainer| trainer.give_way(&text, control));
        }
        let mut used = labels.clone();
        used.sort_unstable();
        used.dedup();
        if used.len() < k {
            let text = format!("{} of the {k} clusters ended empty; fewer may fit the data", k - used.len());
            tracing::warn!("{text}");
            self.run.state.warnings.push(text);
        }
        self.score_end(&labels, concluded, control)
    }

    /// Does what sets the network to the start's weights. If that is interrupted, the network is as it was: what is saved then is
    /// the end of self-training.
    fn or_as_it_was(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let Some(network) = self.network() else { return Ok(()) };
        let parameters = network.parameters();
        let trained = copies(&parameters)?;
        let done = work(self);
        if done.is_err() {
            set_parameters(&parameters, &trained)?;
            self.concluded = None;
        }
        done
    }

    /// The rows around the start's centroids as the result, since self-training ended below them.
    fn give_way(&mut self, text: &str, control: &mut Control) -> Result<()> {
        let Some((labels, concluded)) = self.assign_by_start(control)? else { return Ok(()) };
        self.score_end(&labels, concluded, control)?;
        control.tell(&Event::Warning { stage: StageName::Cluster, text });
        self.run.state.warnings.push(text.to_owned());
        Ok(())
    }

    /// The rows by the weights as they are; nothing before self-training.
    fn assign(&self, control: &Control) -> Result<Option<(Vec<i64>, Concluded)>> {
        let state = &self.run.state;
        let (Some(layer), Some(network)) = (&state.layer, self.network()) else { return Ok(None) };
        if state.self_training.is_none() {
            return Ok(None);
        }
        self.assign_by(network, layer.share(), control).map(Some)
    }

    /// The rows by the network and the centroids that self-training began with, which become the network's weights.
    fn assign_by_start(&self, control: &Control) -> Result<Option<(Vec<i64>, Concluded)>> {
        let (Some(begun), Some(network)) = (&self.run.state.self_training, self.network()) else { return Ok(None) };
        set_parameters(&network.parameters(), &begun.start_parameters)?;
        let layer = ClusteringLayer::new(&begun.start.centroids, self.run.task.config.cluster.alpha)?;
        self.assign_by(network, layer, control).map(Some)
    }

    fn assign_by(
        &self,
        network: &dyn Network,
        layer: ClusteringLayer,
        control: &Control,
    ) -> Result<(Vec<i64>, Concluded)> {
        let z = encode_all(network, &self.run.task.rows, control)?;
        let log_q = layer.log_soft_assign_all(&z)?;
        if !bool::try_from(log_q.f_isfinite()?.f_all()?)? {
            return Err(Error::Training("cluster diverged: the soft assignment is not finite".to_owned()));
        }
        let q = log_q.f_exp()?;
        let (confidence, labels) = q.f_max_dim(1, false)?;
        let (labels, confidence): (Vec<i64>, Vec<f32>) = (values_of(&labels)?, values_of(&confidence)?);
        let profile = Profile::of(&z, &labels, &confidence, layer.centroids())?;
        let assignment = self.assignment(&z, &q, labels.clone(), &layer, &profile)?;
        Ok((labels, Concluded { assignment, q, z, layer, profile }))
    }

    /// In the order of the input's rows.
    fn assignment(
        &self,
        z: &Tensor,
        q: &Tensor,
        labels: Vec<i64>,
        layer: &ClusteringLayer,
        profile: &Profile,
    ) -> Result<Assignment> {
        let (places, rows) = input_order(&self.run.task.order);
        let shuffled = Assignment::of(z, q, labels, (layer.centroids(), layer.groups()), Some(profile))?;
        let names = self.run.task.names().of_all(layer.n_clusters());
        Ok(Assignment { ids: self.run.task.ids.clone(), names, ..shuffled }.at(&places, rows))
    }

    fn score_end(&mut self, labels: &[i64], concluded: Concluded, control: &mut Control) -> Result<()> {
        let z = concluded.z.shallow_clone();
        let inertia = metrics::inertia(array_of(&z)?.view(), labels, array_of(concluded.layer.centroids())?.view())?;
        self.concluded = Some(concluded);
        score(&mut self.run, Method::Dec, labels, inertia, control)
    }

    /// Makes the first assignment the result, with the weights that it was found with.
    fn keep_start(&mut self, control: &Control) -> Result<()> {
        let Some((_, mut concluded)) = self.assign_by_start(control)? else { return Ok(()) };
        let Some(begun) = &self.run.state.self_training else { return Ok(()) };
        let Concluded { z, q, layer, profile, .. } = &concluded;
        concluded.assignment = self.assignment(z, q, begun.start.labels.clone(), layer, profile)?;
        self.concluded = Some(concluded);
        Ok(())
    }

    /// What an interrupted self-training has come to, if that can be had soon: not where other processes hold some of the rows.
    fn end_early(&mut self) {
        if self.run.task.rows.ranks().size() > 1 {
            return;
        }
        let mut deadline = Deadline::within(EARLY_END);
        let control = &mut Control::new(&mut deadline);
        let ended = self.assign(control).and_then(|found| match found {
            Some((labels, concluded)) => self.score_end(&labels, concluded, control),
            None => Ok(()),
        });
        if let Err(problem) = ended {
            tracing::debug!("no clusters of the interrupted run: {problem}");
        }
    }

    /// What the run has reached.
    pub fn reached(&self) -> Reached<'_> {
        let state = &self.run.state;
        let concluded = self.concluded.as_ref();
        Reached {
            intake: &self.run.task.intake,
            scaling: &self.run.task.scaling,
            network: self.network(),
            layer: concluded.map(|concluded| &concluded.layer),
            profile: concluded.map(|concluded| &concluded.profile),
            tables: concluded.map(|c| (&c.z, &c.q, input_order(&self.run.task.order).0)),
            columns: &self.run.task.columns,
            assignment: concluded.map(|concluded| &concluded.assignment),
            state,
        }
    }

    fn fitted(&self) -> Result<Fitted> {
        let unfinished = || Error::Training("the run has not come to its end".to_owned());
        let concluded = self.concluded.as_ref().ok_or_else(unfinished)?;
        let network = self.network().ok_or_else(unfinished)?.share();
        let (places, _) = input_order(&self.run.task.order);
        let state = &self.run.state;
        Ok(Fitted {
            model: Model {
                intake: self.run.task.intake.clone(),
                columns: self.run.task.columns.clone(),
                image: Image::of_kind(self.run.task.kind.rows),
                n_features: self.run.task.rows.n_features(),
                scaling: self.run.task.scaling.clone(),
                network,
                layer: concluded.layer.share(),
                profile: Some(concluded.profile.clone()),
                names: self.run.task.names(),
            },
            assignment: concluded.assignment.clone(),
            q: rows_at(&concluded.q, &places)?,
            z: rows_at(&concluded.z, &places)?,
            results: state.results.clone(),
            stages: state.stages.clone(),
            rounds: state.rounds,
            converged: state.converged,
            rollbacks: state.rollbacks.clone(),
        })
    }
}
