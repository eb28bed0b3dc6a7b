//! A host that is asked, and its options.

use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use placer_engine::claims::{ClaimDirs, ClaimId, ClaimOwner, Overcommit};
use placer_engine::{Engine, EngineError, SysRoot};

use crate::answer::Answer;
use crate::failure::{Code, Failure, unknown, wrong};
use crate::request::Question;

/// `PLACER_HOST_SAMPLER` of the header.
const SAMPLER: u32 = 1;

/// `placer_host` of the header.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) root: SysRoot,
    /// The process that has the sampler.
    sampled_by: Option<u32>,
    state: RwLock<State>,
}

/// The options, and the engine that goes by them.
#[derive(Debug)]
struct State {
    options: Options,
    engine: Engine,
}

#[derive(Clone, Debug)]
struct Options {
    sampler: bool,
    claims: bool,
    dirs: ClaimDirs,
    window: Option<Duration>,
    interval: Option<Duration>,
}

impl Options {
    fn start(&self, root: &SysRoot) -> Result<Engine, Failure> {
        let mut builder = Engine::builder(root.clone());
        if !self.sampler {
            builder = builder.without_thread();
        }
        if self.claims {
            builder = builder.claims(self.dirs.clone());
        }
        if let Some(window) = self.window {
            builder = builder.window(window);
        }
        if let Some(interval) = self.interval {
            builder = builder.interval(interval);
        }
        Ok(builder.start()?)
    }

    fn set(&mut self, key: &str, value: &CStr) -> Result<(), Failure> {
        let text = || value.to_str().map_err(|_| wrong(key, "UTF-8", value));
        match key {
            "claims" => {
                self.claims = match text()? {
                    "count" => true,
                    "ignore" => false,
                    _ => return Err(wrong(key, "count or ignore", value)),
                }
            }
            "state-dir" => {
                let overcommit = self.dirs.overcommit;
                let dir = std::ffi::OsStr::from_bytes(value.to_bytes());
                if dir.is_empty() {
                    return Err(wrong(key, "a directory", value));
                }
                self.dirs =
                    ClaimDirs::on_top_of_roots(Some(dir.into())).with_overcommit(overcommit);
            }
            "overcommit" => {
                let factor = text()?.parse().ok().and_then(Overcommit::new);
                let factor = factor.ok_or_else(|| wrong(key, "a factor of 1 to 100", value))?;
                self.dirs = self.dirs.clone().with_overcommit(factor);
            }
            "window" => self.window = Some(milliseconds(key, value)?),
            "interval" if self.sampler => self.interval = Some(milliseconds(key, value)?),
            "interval" => {
                let why = "interval is for a host opened with PLACER_HOST_SAMPLER";
                return Err(Failure::new(Code::Argument, why));
            }
            _ => {
                let known = "claims, state-dir, overcommit, window, interval";
                return Err(unknown("host", key, known));
            }
        }
        Ok(())
    }
}

impl Host {
    pub(crate) fn open(root: Option<&CStr>, flags: u32) -> Result<Self, Failure> {
        if flags & !SAMPLER != 0 {
            let why = format!("flags: expected 0 or PLACER_HOST_SAMPLER, found {flags:#x}");
            return Err(Failure::new(Code::Argument, why));
        }
        let root = root.map_or_else(SysRoot::live, |root| {
            SysRoot::at(std::ffi::OsStr::from_bytes(root.to_bytes()))
        });
        let options = Options {
            sampler: flags & SAMPLER != 0,
            claims: true,
            dirs: ClaimDirs::system(),
            window: None,
            interval: None,
        };
        let engine = options.start(&root)?;
        let sampled_by = options.sampler.then(std::process::id);
        Ok(Self { root, sampled_by, state: RwLock::new(State { options, engine }) })
    }

    /// Changes an option. The engine is started anew; an option that it does not start with is not changed.
    pub(crate) fn set(&self, key: &str, value: &CStr) -> Result<(), Failure> {
        self.check_process()?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut options = state.options.clone();
        options.set(key, value)?;
        let engine = options.start(&self.root)?;
        *state = State { options, engine };
        Ok(())
    }

    pub(crate) fn age_ms(&self) -> Result<i64, Failure> {
        let age = self.with(|engine| Ok(engine.age()))?;
        Ok(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
    }

    pub(crate) fn advise(&self, question: &Question) -> Result<Answer, Failure> {
        let request = &question.request;
        let advice = self.with(|engine| engine.advise(request))?;
        Answer::new(request, advice, None)
    }

    pub(crate) fn place(&self, question: &Question, owner: ClaimOwner) -> Result<Answer, Failure> {
        let request = &question.request;
        let placed = self.with(|engine| engine.place(request, owner))?;
        Answer::new(request, placed.advice, Some(placed.claim))
    }

    pub(crate) fn claim(&self, answer: &Answer, owner: ClaimOwner) -> Result<Answer, Failure> {
        let Answer { request, advice, .. } = answer;
        let claim = self.with(|engine| engine.claim(request, advice, owner))?;
        Answer::new(request, advice.clone(), Some(claim))
    }

    pub(crate) fn adopt(&self, claim: &str, owner: ClaimOwner) -> Result<(), Failure> {
        let id = claim_id(claim)?;
        self.with(|engine| engine.adopt(id, owner))
    }

    pub(crate) fn release(&self, claim: &str) -> Result<(), Failure> {
        let id = claim_id(claim)?;
        self.with(|engine| engine.release(id))
    }

    fn with<T>(&self, ask: impl FnOnce(&Engine) -> Result<T, EngineError>) -> Result<T, Failure> {
        self.check_process()?;
        Ok(ask(&self.state.read().unwrap_or_else(PoisonError::into_inner).engine)?)
    }

    /// Fails in a forked child without the sampler, where another thread of the parent may have held the lock.
    pub(crate) fn check_process(&self) -> Result<(), Failure> {
        match self.sampled_by {
            Some(process) if process != std::process::id() => Err(EngineError::Forked.into()),
            _ => Ok(()),
        }
    }
}

/// Returns the owner of a claim: a process, or nobody for a time.
pub(crate) fn owner(pid: i64, hold_ms: u64) -> Result<ClaimOwner, Failure> {
    let wrong = |why| Failure::new(Code::Argument, why);
    match (pid, hold_ms) {
        (0, 0) => Err(wrong("expected a pid, or a hold of at least 1 ms")),
        (0, hold) => Ok(ClaimOwner::Hold(Duration::from_millis(hold))),
        (pid, 0) => u32::try_from(pid)
            .map(ClaimOwner::Pid)
            .map_err(|_| wrong("pid: expected a process id above 0")),
        _ => Err(wrong("a claim lasts for a process or for a hold, not both")),
    }
}

fn claim_id(text: &str) -> Result<ClaimId, Failure> {
    text.parse().map_err(|why| Failure::new(Code::Argument, format!("claim: {why}")))
}

fn milliseconds(key: &str, value: &CStr) -> Result<Duration, Failure> {
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.map(Duration::from_millis).ok_or_else(|| wrong(key, "milliseconds", value))
}
