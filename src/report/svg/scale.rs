//! How much is drawn of a host of a size: the larger it is, the less of each part.

use crate::report::view::View;

/// Sizes in pixels, and what is left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    /// Cards beside one another.
    pub(super) columns: usize,
    pub(super) card: f64,
    pub(super) gap: f64,
    pub(super) pad: f64,
    /// Of a card's title, and of what is written in it.
    pub(super) title: f64,
    pub(super) text: f64,
    /// Whether a card says its figures in full, and shows caches and devices.
    pub(super) full: bool,
    pub(super) cell: Cell,
}

/// How a CPU is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell {
    /// With its id.
    Numbered { w: f64, h: f64, text: f64 },
    /// By its load alone.
    Small { side: f64 },
    /// All threads of a core as one.
    Core { side: f64 },
    /// All CPUs of a node as one bar.
    Bar,
}

/// More cells than this are not told apart, and make a picture large.
const MOST_CELLS: u64 = 2_048;

impl Scale {
    /// Returns how a host is drawn.
    pub(super) fn of(view: &View) -> Self {
        let nodes = view.nodes.len();
        let widest = view.nodes.iter().map(|node| node.cpus.len()).max().unwrap_or(0);
        if nodes > 16 {
            let cell =
                if widest <= 64 { Cell::Small { side: 9.0 } } else { Cell::Small { side: 5.0 } };
            return Self {
                columns: 8,
                card: 134.0,
                gap: 10.0,
                pad: 9.0,
                title: 12.0,
                text: 10.0,
                full: false,
                cell: merged(view, cell),
            };
        }
        let cell = match widest {
            0..=32 => Cell::Numbered { w: 30.0, h: 24.0, text: 11.0 },
            33..=96 => Cell::Numbered { w: 24.0, h: 20.0, text: 9.0 },
            _ => Cell::Small { side: 9.0 },
        };
        let (columns, card) = match nodes {
            0..=1 => (1, 680.0),
            2 => (2, 372.0),
            3 => (3, 300.0),
            _ => (4, 272.0),
        };
        Self {
            columns,
            card,
            gap: 16.0,
            pad: 14.0,
            title: 15.0,
            text: 12.0,
            full: true,
            cell: merged(view, cell),
        }
    }
}

/// Draws cores in place of CPUs where there are too many, and bars where there are too many cores.
fn merged(view: &View, cell: Cell) -> Cell {
    let domains = view.nodes.iter().flat_map(|node| &node.domains);
    let cores: u64 = domains.map(|domain| u64::try_from(domain.cores.len()).unwrap_or(0)).sum();
    match (view.cpus() > MOST_CELLS, cores > MOST_CELLS) {
        (false, _) => cell,
        (true, false) => Cell::Core { side: 8.0 },
        (true, true) => Cell::Bar,
    }
}
