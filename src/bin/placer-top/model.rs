//! What is shown, and what keys do to it. Pure: an event in, at most one order out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use placer_engine::claims::{Claim, ClaimId, OwnerProcess};
use placer_engine::{Bytes, Host, HostParts, NodeId, NodeSet, Snapshot};

use crate::answer::{Answer, Choice};
use crate::field::{Edit, Field};
use crate::history::History;
use crate::plan::{self, Plan};
use crate::sheet::{self, Item};
use placer::report::view::{Guest, Sources, View};

/// What happens.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Key(Key),
    /// The terminal's columns and lines.
    Size(u16, u16),
    /// A new reading, with what is claimed counted in; and why the last one failed, if it did.
    Host(Arc<Snapshot>, Option<String>),
    /// What is looked at less often.
    Around(Arc<Around>),
    /// A recording ended: where it lies, or why there is none.
    Recorded(Result<PathBuf, String>),
}

/// What is read beside the snapshots.
#[derive(Clone, Debug, Default)]
pub(crate) struct Around {
    pub(crate) parts: HostParts,
    /// `None` when they cannot be told.
    pub(crate) claims: Option<Vec<Arc<Claim>>>,
    /// What the owners of claims run.
    pub(crate) owners: BTreeMap<ClaimId, OwnerProcess>,
    /// Where their memory was when it was last looked at.
    pub(crate) placed: BTreeMap<ClaimId, Vec<(NodeId, Bytes)>>,
    /// What a person should know about the claims.
    pub(crate) notes: Vec<String>,
}

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    Control(char),
    Enter,
    Escape,
    Tab,
    Backspace,
    Delete,
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
    PageUp,
    PageDown,
}

/// What the end has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Quit,
    /// Ctrl-Z: give the terminal back, stop, come back.
    Suspend,
    /// Draw everything anew.
    Redraw,
    Record(PathBuf),
}

/// Where keys go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Browse,
    Request,
    Filter,
    Record,
    Help,
    Notes,
}

/// The order of the boxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Distance,
    Id,
    Busy,
    Left,
    Claimed,
}

impl Sort {
    const ALL: [Self; 5] = [Self::Distance, Self::Id, Self::Busy, Self::Left, Self::Claimed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Distance => "distance",
            Self::Id => "node",
            Self::Busy => "load",
            Self::Left => "memory left",
            Self::Claimed => "claims",
        }
    }

    fn next(self) -> Self {
        let at = Self::ALL.iter().position(|&sort| sort == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }
}

/// All that is shown.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// Whose host it is, for the first line.
    pub(crate) source: String,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) around: Arc<Around>,
    /// The two as they are shown.
    pub(crate) view: View,
    /// Why the last reading failed.
    pub(crate) trouble: Option<String>,
    choice: Choice,
    pub(crate) answer: Answer,
    pub(crate) request: Field,
    pub(crate) filter: Field,
    pub(crate) record: Field,
    pub(crate) mode: Mode,
    pub(crate) sort: Sort,
    pub(crate) by_package: bool,
    pub(crate) paused: bool,
    /// Whether the guests are shown where the answer would be.
    pub(crate) show_guests: bool,
    /// Whether the caches are shown there.
    pub(crate) show_caches: bool,
    pub(crate) history: History,
    /// The box that the arrows have gone to, by its nodes.
    pub(crate) selected: Option<NodeSet>,
    /// What was said last, and whether it is bad news.
    pub(crate) message: Option<(String, bool)>,
    pub(crate) recording: bool,
    pub(crate) size: (u16, u16),
    /// The boxes in the order they are shown in.
    pub(crate) items: Vec<Item>,
    pub(crate) total: Item,
    pub(crate) plan: Plan,
    laid: Laid,
}

/// The boxes in their order by distance, kept: on a large host it takes longer to find than all else.
#[derive(Clone, Debug, Default)]
struct Laid {
    host: Option<Arc<Host>>,
    columns: usize,
    sets: Vec<NodeSet>,
    order: Vec<usize>,
}

impl Model {
    /// Returns what is shown at first.
    pub(crate) fn new(
        source: String,
        snapshot: Arc<Snapshot>,
        around: Arc<Around>,
        choice: Choice,
        request: &str,
        size: (u16, u16),
    ) -> Self {
        let view = view_of(&source, &snapshot, &around);
        let mut model = Self {
            total: sheet::whole(&view),
            view,
            source,
            snapshot,
            around,
            trouble: None,
            choice,
            answer: Answer::Nothing,
            request: Field::new(request),
            filter: Field::default(),
            record: Field::new("placer-host"),
            mode: Mode::Browse,
            sort: Sort::Distance,
            by_package: false,
            paused: false,
            show_guests: false,
            show_caches: false,
            history: History::default(),
            selected: None,
            message: None,
            recording: false,
            size,
            items: Vec::new(),
            plan: Plan::default(),
            laid: Laid::default(),
        };
        model.history.add(&model.view, &model.snapshot);
        model.ask();
        model.arrange();
        model
    }

    /// Lets something happen. Returns what is to be done about it.
    pub(crate) fn update(&mut self, event: Event) -> Option<Order> {
        match event {
            Event::Key(key) => return self.press(key),
            Event::Size(columns, lines) => {
                self.size = (columns, lines);
                self.arrange();
            }
            Event::Host(snapshot, trouble) if !self.paused => {
                self.snapshot = snapshot;
                self.trouble = trouble;
                self.look();
                self.history.add(&self.view, &self.snapshot);
                self.ask();
            }
            Event::Around(around) if !self.paused => {
                self.around = around;
                self.look();
            }
            Event::Host(..) | Event::Around(_) => {}
            Event::Recorded(outcome) => {
                self.recording = false;
                self.message = Some(match outcome {
                    Ok(dir) => (format!("recorded in {}", dir.display()), false),
                    Err(why) => (why, true),
                });
            }
        }
        None
    }

    /// Returns the guests that the filter leaves.
    pub(crate) fn guests(&self) -> Vec<&Guest> {
        let filter = self.filter.text();
        let all = self.view.guests.iter().flatten();
        match nodes_of(&filter) {
            _ if filter.is_empty() => all.collect(),
            Some(nodes) => all.filter(|guest| sheet::share(guest, &nodes).is_some()).collect(),
            None => all.filter(|guest| sheet::name(guest).contains(&filter)).collect(),
        }
    }

    /// Returns what a person should know: what is wrong now first.
    pub(crate) fn notes(&self) -> Vec<String> {
        let trouble = self.trouble.iter().map(|why| format!("the host cannot be read: {why}"));
        let noted = self.view.notes.iter().chain(&self.around.notes).cloned();
        let odd = self.view.odd.iter().map(|odd| odd.text.clone());
        trouble.chain(noted).chain(odd).collect()
    }

    fn press(&mut self, key: Key) -> Option<Order> {
        match key {
            Key::Control('c') => return Some(Order::Quit),
            Key::Control('z') => return Some(Order::Suspend),
            Key::Control('l') => return Some(Order::Redraw),
            _ => {}
        }
        match self.mode {
            Mode::Browse => self.browse(key),
            Mode::Help | Mode::Notes => {
                self.mode = Mode::Browse;
                None
            }
            Mode::Request | Mode::Filter | Mode::Record => self.type_in(key),
        }
    }

    fn browse(&mut self, key: Key) -> Option<Order> {
        self.message = None;
        match key {
            Key::Char('q') => return Some(Order::Quit),
            Key::Char('?' | 'h') => self.mode = Mode::Help,
            Key::Char('n') => self.mode = Mode::Notes,
            Key::Char('/') => self.mode = Mode::Filter,
            Key::Char('r') => self.mode = Mode::Record,
            Key::Char(':' | 'a') | Key::Enter => {
                (self.show_guests, self.show_caches) = (false, false);
                self.mode = Mode::Request;
            }
            // Who types a number means a request.
            Key::Char(digit @ '0'..='9') => {
                (self.show_guests, self.show_caches) = (false, false);
                self.mode = Mode::Request;
                self.request = Field::new(&digit.to_string());
                self.ask();
            }
            Key::Char('s') => self.sort = self.sort.next(),
            Key::Char('p') => {
                self.by_package = !self.by_package;
                self.selected = None;
            }
            Key::Char('g') | Key::Tab => {
                self.show_guests = !self.show_guests;
                self.show_caches = false;
            }
            Key::Char('c') => self.show_caches = !self.show_caches,
            Key::Char(' ') => self.paused = !self.paused,
            Key::Char('x') => {
                self.request.edit(Edit::Clear);
                self.ask();
            }
            Key::Escape => self.escape(),
            key => self.go(key),
        }
        self.arrange();
        None
    }

    /// Takes back, one after the other, what was chosen.
    fn escape(&mut self) {
        if self.selected.take().is_some() {
            return;
        }
        if self.filter.is_empty() {
            self.request.edit(Edit::Clear);
            self.ask();
        } else {
            self.filter.edit(Edit::Clear);
        }
    }

    fn go(&mut self, key: Key) {
        let Some(last) = self.items.len().checked_sub(1) else { return };
        let here = self.selected_at();
        let (columns, page) = (self.plan.columns.max(1), self.plan.visible().max(1));
        let to = match (key, here) {
            (Key::Left | Key::Right | Key::Up | Key::Down | Key::PageDown, None) => 0,
            (Key::Left, Some(at)) => at.saturating_sub(1),
            (Key::Right, Some(at)) => at + 1,
            (Key::Up, Some(at)) => at.checked_sub(columns).unwrap_or(at),
            (Key::Down, Some(at)) if at + columns <= last => at + columns,
            (Key::Down, Some(at)) => at,
            (Key::PageUp, at) => at.unwrap_or(0).saturating_sub(page),
            (Key::PageDown, Some(at)) => at + page,
            (Key::Home, _) => 0,
            (Key::End, _) => last,
            _ => return,
        };
        self.selected = self.items.get(to.min(last)).map(|item| item.nodes.clone());
    }

    /// Returns where the selected box stands.
    pub(crate) fn selected_at(&self) -> Option<usize> {
        let nodes = self.selected.as_ref()?;
        self.items.iter().position(|item| item.nodes == *nodes)
    }

    fn type_in(&mut self, key: Key) -> Option<Order> {
        let field = match self.mode {
            Mode::Filter => &mut self.filter,
            Mode::Record => &mut self.record,
            _ => &mut self.request,
        };
        let edit = match key {
            Key::Char(c) => Edit::Insert(c),
            Key::Backspace => Edit::Backspace,
            Key::Delete => Edit::Delete,
            Key::Left => Edit::Left,
            Key::Right => Edit::Right,
            Key::Home | Key::Control('a') => Edit::Start,
            Key::End | Key::Control('e') => Edit::End,
            Key::Control('u') => Edit::Clear,
            Key::Enter => return self.enter(),
            Key::Escape => {
                // What was typed is taken back, but for where a recording would go.
                if self.mode != Mode::Record {
                    field.edit(Edit::Clear);
                }
                self.mode = Mode::Browse;
                self.ask();
                self.arrange();
                return None;
            }
            _ => return None,
        };
        field.edit(edit);
        self.ask();
        self.arrange();
        None
    }

    fn enter(&mut self) -> Option<Order> {
        let record = self.mode == Mode::Record;
        self.mode = Mode::Browse;
        if !record || self.recording || self.record.is_empty() {
            return None;
        }
        self.recording = true;
        self.message = Some(("recording ...".to_owned(), false));
        Some(Order::Record(PathBuf::from(self.record.text())))
    }

    fn ask(&mut self) {
        self.answer = Answer::to(self.request.text().trim(), &self.choice, &self.snapshot);
    }

    /// Makes what is shown anew of what was read.
    fn look(&mut self) {
        self.view = view_of(&self.source, &self.snapshot, &self.around);
        self.total = sheet::whole(&self.view);
        self.arrange();
    }

    /// Makes the boxes anew, and says where they stand.
    fn arrange(&mut self) {
        let view = &self.view;
        let mut items = if self.by_package { sheet::groups(view) } else { sheet::nodes(view) };
        let filter = self.filter.text();
        if !filter.is_empty() {
            let wanted = nodes_of(&filter);
            items.retain(|item| match &wanted {
                Some(nodes) => !item.nodes.intersection(nodes).is_empty(),
                None => item.guests.iter().any(|(name, _)| name.contains(&filter)),
            });
        }
        match self.sort {
            Sort::Distance | Sort::Id => {}
            Sort::Busy => items.sort_by(|a, b| {
                let busy = |item: &Item| item.busy().unwrap_or(-1.0);
                busy(b).total_cmp(&busy(a))
            }),
            Sort::Left => items.sort_by_key(|item| std::cmp::Reverse(item.memory.left)),
            Sort::Claimed => items.sort_by_key(|item| std::cmp::Reverse(item.memory.claimed)),
        }
        self.plan = Plan::of(items.len(), self.size);
        if self.sort == Sort::Distance {
            items = self.by_distance(items);
        }
        self.items = items;
    }

    fn by_distance(&mut self, items: Vec<Item>) -> Vec<Item> {
        let (host, columns) = (self.snapshot.host(), self.plan.columns);
        let same = self.laid.host.as_ref().is_some_and(|laid| Arc::ptr_eq(laid, host))
            && self.laid.columns == columns
            && self.laid.sets.iter().eq(items.iter().map(|item| &item.nodes));
        if !same {
            let sets: Vec<NodeSet> = items.iter().map(|item| item.nodes.clone()).collect();
            let order = plan::by_distance(&sets, columns, &host.topology);
            self.laid = Laid { host: Some(Arc::clone(host)), columns, sets, order };
        }
        let mut slots: Vec<Option<Item>> = items.into_iter().map(Some).collect();
        self.laid.order.iter().filter_map(|&at| slots.get_mut(at)?.take()).collect()
    }
}

/// Returns what is shown of a host, its guests with where their memory was seen.
fn view_of(name: &str, snapshot: &Snapshot, around: &Around) -> View {
    let Around { parts, claims, owners, placed, .. } = around;
    let claims = claims.as_deref();
    let mut view = View::of(Sources { name, snapshot, parts, claims, owners });
    for guest in view.guests.iter_mut().flatten().filter(|guest| guest.now.is_none()) {
        let id: Option<ClaimId> = guest.id.parse().ok();
        guest.now = id.and_then(|id| placed.get(&id)).cloned();
    }
    view
}

/// Returns the nodes that a filter names; `None` when it is of names.
fn nodes_of(filter: &str) -> Option<NodeSet> {
    filter.parse().ok().filter(|nodes: &NodeSet| !nodes.is_empty())
}
