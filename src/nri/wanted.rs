//! What a container asks for, as its runtime describes it. Pure.

use placer_engine::claims::Nonce;
use placer_engine::{Bytes, CpuSet, CpuShare, NodeSet, Request};

use super::messages::{Container, ContainerRequest, Pod, Resources};
use crate::container::{self, Definition, REQUEST, STRICT, Wanted};
use crate::settings::{Advise, PlaceName};

/// The annotation [`REQUEST`] of a pod for one of its containers, whose name follows. Without a name it is for each.
const REQUEST_OF: &str = "org.placer.request/container.";
/// Annotation that a container gets which was not placed, or not as it should be.
pub(super) const NOTE: &str = "org.placer.note";
/// Variable of a container that was placed: its nodes, or [`ALL`].
pub(super) const NODES: &str = "PLACER_NODES";
pub(super) const ALL: &str = "all";

/// The score of a container without requests and limits (BestEffort).
const BEST_EFFORT: i64 = 1000;

/// Returns whether a container that does not fit is refused.
///
/// Errors: the annotation is neither true nor false.
pub(super) fn strict(asked: &ContainerRequest) -> Result<bool, String> {
    match annotation(asked, STRICT) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(format!("annotation {STRICT}: expected true or false, found {other:?}")),
    }
}

/// Returns what a container asks for that is about to be created; `None` where it is to be left alone. `total` is the
/// memory of the host.
///
/// Errors: its request is not readable.
pub(super) fn wanted(
    asked: &ContainerRequest,
    total: Bytes,
    set: &Advise,
) -> Result<Option<Wanted>, String> {
    let Some(container) = &asked.container else { return Ok(None) };
    if by_hand(container) || container.env.iter().any(|line| line.starts_with("DRA_CPUSET_")) {
        return Ok(None);
    }
    wanted_with(asked, resources(container), total, set)
}

/// The same for a container that placer has placed, with the resources that it has or is about to have.
pub(super) fn wanted_with(
    asked: &ContainerRequest,
    resources: Option<&Resources>,
    total: Bytes,
    set: &Advise,
) -> Result<Option<Wanted>, String> {
    let Some(container) = &asked.container else { return Ok(None) };
    let request = request(asked, container);
    if request.is_none() && score(container) >= BEST_EFFORT {
        return Ok(None);
    }
    let cpu = resources.and_then(|resources| resources.cpu.as_ref());
    let limit = resources.and_then(|all| all.memory.as_ref()?.limit).map(|limit| limit.value);
    let limit = limit.filter(|limit| *limit > 0);
    let requested = || i64::try_from(requested(container, total)?.get()).ok();
    let huge = resources.is_some_and(|all| all.hugepage_limits.iter().any(|huge| huge.limit > 0));
    let definition = Definition {
        request: request.map(str::to_owned),
        quota: cpu.and_then(|cpu| cpu.quota).map(|quota| quota.value),
        period: cpu.and_then(|cpu| cpu.period).map(|period| period.value),
        shares: cpu.and_then(|cpu| cpu.shares).map(|shares| shares.value),
        shares_are_cpus: true,
        memory: limit.or_else(requested),
        huge_pages: huge,
        group: container.linux.as_ref().map(|linux| linux.cgroups_path.clone()),
        ..Definition::default()
    };
    let wanted = definition.wanted(PlaceName::Limited, set)?;
    Ok(wanted
        .map(|wanted| Wanted { covers_limit: wanted.covers_limit && limit.is_some(), ..wanted }))
}

/// Returns whether a container that is about to be created has CPUs or nodes already.
pub(super) fn by_hand(container: &Container) -> bool {
    let cpu = resources(container).and_then(|resources| resources.cpu.as_ref());
    cpu.is_some_and(|cpu| !cpu.cpus.is_empty() || !cpu.mems.is_empty())
}

/// Returns what a Burstable container asks for if its memory is what it requests, not its limit; `None` where that is not
/// less.
pub(super) fn by_request(
    asked: &ContainerRequest,
    resources: Option<&Resources>,
    total: Bytes,
    set: &Advise,
) -> Option<Wanted> {
    let container = asked.container.as_ref()?;
    let Wanted { mut request, parent, .. } = wanted_with(asked, resources, total, set).ok()??;
    let memory = requested(container, total).filter(|memory| *memory < request.memory)?;
    request.memory = memory;
    let annotated = self::request(asked, container).is_some();
    (!annotated).then_some(Wanted { request, covers_limit: false, parent })
}

/// Returns the memory that a Burstable container requests, which kubelet says in this form alone: 1000 less the permille
/// of the host's memory.
fn requested(container: &Container, total: Bytes) -> Option<Bytes> {
    let score = Some(score(container)).filter(|score| (2..BEST_EFFORT).contains(score))?;
    let permille = u64::try_from(BEST_EFFORT - score).ok()?;
    Some(Bytes::new((total.get() / 1000).saturating_mul(permille)))
}

fn score(container: &Container) -> i64 {
    let score = container.linux.as_ref().and_then(|linux| linux.oom_score_adj);
    score.map_or(0, |score| score.value)
}

/// Returns the size of a container that asks for nothing.
pub(super) fn nothing() -> Wanted {
    let request = Request::new(CpuShare::ZERO, Bytes::ZERO);
    Wanted { request, covers_limit: false, parent: None }
}

fn request<'a>(asked: &'a ContainerRequest, container: &'a Container) -> Option<&'a str> {
    let of_pod = || {
        let pod = asked.pod.as_ref()?;
        pod.annotations.get(&format!("{REQUEST_OF}{}", container.name))
    };
    let own = container.annotations.get(REQUEST).or_else(of_pod).map(String::as_str);
    own.or_else(|| annotation(asked, REQUEST))
}

/// Where placer has placed a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// Empty: all CPUs of the host.
    pub(super) cpus: CpuSet,
    /// Empty: all nodes of the host.
    pub(super) nodes: NodeSet,
    /// Whether its memory is bound to these.
    pub(super) bound: bool,
}

/// Returns the nodes that a container's variables name, whoever has set them.
pub(super) fn marked(container: &Container) -> Option<&str> {
    let mut lines = container.env.iter();
    let value = lines.find_map(|line| line.strip_prefix(NODES)?.strip_prefix('='));
    value.filter(|nodes| !nodes.is_empty())
}

/// Returns where a container says that placer has placed it; `None` where it does not.
pub(super) fn placed(container: &Container) -> Option<Placed> {
    let nodes = marked(container)?;
    let nodes = if nodes == ALL { NodeSet::new() } else { nodes.parse().ok()? };
    let cpu = resources(container)?.cpu.as_ref();
    let cpus = cpu.map_or("", |cpu| &cpu.cpus).parse().ok()?;
    Some(Placed { cpus, nodes, bound: cpu.is_some_and(|cpu| !cpu.mems.is_empty()) })
}

/// Returns resources after a change, in which only what differs is said.
pub(super) fn changed(before: Option<&Resources>, change: &Resources) -> Resources {
    let mut after = before.cloned().unwrap_or_default();
    if let Some(limit) = change.memory.as_ref().and_then(|memory| memory.limit) {
        after.memory.get_or_insert_default().limit = Some(limit);
    }
    if let Some(cpu) = &change.cpu {
        let had = after.cpu.get_or_insert_default();
        had.shares = cpu.shares.or(had.shares);
        had.quota = cpu.quota.or(had.quota);
        had.period = cpu.period.or(had.period);
    }
    after
}

pub(super) fn resources(container: &Container) -> Option<&Resources> {
    container.linux.as_ref()?.resources.as_ref()
}

fn annotation<'a>(asked: &'a ContainerRequest, key: &str) -> Option<&'a str> {
    let container = asked.container.as_ref().and_then(|one| one.annotations.get(key));
    container.or_else(|| asked.pod.as_ref()?.annotations.get(key)).map(String::as_str)
}

/// Returns the name of a container's claim, by which it is found again.
pub(super) fn claim_name(id: &str) -> Nonce {
    container::name("nri", id)
}

/// Returns the name of a container for people.
pub(super) fn name(pod: Option<&Pod>, container: &Container) -> String {
    match pod {
        Some(pod) if !pod.name.is_empty() => {
            let space = if pod.namespace.is_empty() { "default" } else { &pod.namespace };
            format!("{space}/{}/{}", pod.name, container.name)
        }
        _ if container.name.is_empty() => container.id.clone(),
        _ => container.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::super::messages::{Cpu, HugepageLimit, LinuxContainer, Memory, Signed, Unsigned};
    use super::*;

    const TOTAL: Bytes = Bytes::new(100 << 30);

    fn container(shares: u64, quota: i64, memory: i64, score: i64) -> Container {
        let cpu = Cpu {
            shares: Some(Unsigned { value: shares }),
            quota: Some(Signed { value: quota }),
            period: Some(Unsigned { value: 100_000 }),
            ..Cpu::default()
        };
        let memory = Memory { limit: Some(Signed { value: memory }) };
        let resources = Resources { memory: Some(memory), cpu: Some(cpu), ..Resources::default() };
        let linux = LinuxContainer {
            resources: Some(resources),
            oom_score_adj: Some(Signed { value: score }),
            cgroups_path: String::new(),
        };
        let (id, name) = ("c".to_owned(), "web".to_owned());
        Container { id, name, linux: Some(linux), ..Container::default() }
    }

    fn asked(container: Container, annotations: &[(&str, &str)]) -> ContainerRequest {
        let annotations = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let pod = Pod { annotations: annotations.collect(), ..Pod::default() };
        ContainerRequest { pod: Some(pod), container: Some(container), resources: None }
    }

    /// CPUs in hundredths, memory in MiB, and whether a claim of it covers the limit.
    type Sizes = Option<(u64, u64, bool)>;

    fn sizes(wanted: Result<Option<Wanted>, String>) -> Result<Sizes, String> {
        let of = |Wanted { request, covers_limit, .. }: Wanted| {
            (request.cpus.hundredths(), request.memory.get() >> 20, covers_limit)
        };
        wanted.map(|wanted| wanted.map(of))
    }

    fn read(asked: &ContainerRequest) -> Result<Sizes, String> {
        sizes(wanted(asked, TOTAL, &Advise::default()))
    }

    #[test]
    fn sizes_come_from_quota_shares_limit_and_score() {
        const LIMIT: i64 = 1 << 30;
        for (shares, quota, memory, score, wanted) in [
            // Guaranteed.
            (2048, 200_000, LIMIT, -997, Some((200, 1024, true))),
            // Burstable: 5 % of the host's memory, which is no limit; the quota goes before the shares.
            (512, 0, 0, 950, Some((50, 5119, false))),
            (512, 150_000, LIMIT, 950, Some((150, 1024, true))),
            (512, -1, 0, 999, Some((50, 102, false))),
            (2, 0, 0, 999, Some((0, 102, false))),
            (100, 0, 0, 0, Some((10, 0, false))),
            // BestEffort, and not by Kubernetes.
            (2, 0, 0, 1000, None),
            (2, 100_000, LIMIT, i64::MAX, None),
            (0, 0, 0, 0, None),
            (0, 0, i64::MAX, 0, None),
            (0, 0, i64::MIN, i64::MIN, None),
        ] {
            let one = asked(container(shares, quota, memory, score), &[]);
            assert_eq!(read(&one), Ok(wanted), "{shares} {quota} {memory} {score}");
        }
        assert_eq!(read(&ContainerRequest::default()), Ok(None));
        let mut huge = container(1024, 0, LIMIT, -997);
        let resources = huge.linux.as_mut().and_then(|linux| linux.resources.as_mut());
        resources.expect("there").hugepage_limits.push(HugepageLimit { limit: 2 << 20 });
        assert_eq!(read(&asked(huge, &[])), Ok(Some((100, 1024, false))));
    }

    #[test]
    fn the_group_above_a_container_is_the_runtimes_word_for_it() {
        let mut one = container(512, 150_000, 10 << 30, 950);
        let linux = one.linux.as_mut().expect("there");
        linux.cgroups_path = "kubepods-pod1.slice:cri-containerd:c".to_owned();
        let one = asked(one, &[]);
        let both = [
            wanted(&one, TOTAL, &Advise::default()).expect("readable"),
            by_request(&one, one.container.as_ref().and_then(resources), TOTAL, &Advise::default()),
        ];
        let above = Some("/kubepods.slice/kubepods-pod1.slice");
        assert!(both.iter().flatten().all(|wanted| wanted.parent.as_deref() == above), "{both:?}");
        assert!(both.iter().all(Option::is_some));
    }

    /// Limits may add up to more than the host has.
    #[test]
    fn a_burstable_container_may_be_placed_by_its_request() {
        const LIMIT: i64 = 10 << 30;
        let of = |score, annotations: &[(&str, &str)]| {
            let one = asked(container(512, 150_000, LIMIT, score), annotations);
            let resources = one.container.as_ref().and_then(resources);
            sizes(Ok(by_request(&one, resources, TOTAL, &Advise::default())))
        };
        assert_eq!(of(950, &[]), Ok(Some((150, 5119, false))));
        for score in [-997, 0, 1, 850, 1000] {
            assert_eq!(of(score, &[]), Ok(None), "{score}");
        }
        assert_eq!(of(950, &[(REQUEST, "1:50G")]), Ok(None));
    }

    #[test]
    fn annotations_go_before_limits_and_the_nearest_first() {
        let limited = || container(1024, 100_000, 1 << 30, -997);
        let of = |annotations: &[(&str, &str)]| read(&asked(limited(), annotations));
        assert_eq!(of(&[(REQUEST, "2:4G")]), Ok(Some((200, 4096, true))));
        let both = [(REQUEST, "2:4G"), ("org.placer.request/container.web", "3:500")];
        assert_eq!(of(&both), Ok(Some((300, 500, false))));
        assert!(of(&[(REQUEST, "2:4GB")]).is_err_and(|why| why.ends_with("; write 2:4G")));
        let mut own = asked(container(2, 0, 0, 1000), &both);
        let container = own.container.as_mut().expect("there");
        container.annotations.insert(REQUEST.to_owned(), "1:1G".to_owned());
        assert_eq!(read(&own), Ok(Some((100, 1024, false))));
    }

    #[test]
    fn containers_of_others_are_left_alone_and_those_of_placer_known() {
        let limited = || container(1024, 100_000, 1 << 30, -997);
        let mut dra = limited();
        dra.env.push("DRA_CPUSET_claim=0-3".to_owned());
        assert_eq!(read(&asked(dra, &[])), Ok(None));
        for (cpus, mems) in [("0-3", ""), ("", "0"), ("0-3", "0")] {
            let mut set = limited();
            let resources = set.linux.as_mut().and_then(|linux| linux.resources.as_mut());
            let cpu = resources.and_then(|all| all.cpu.as_mut()).expect("there");
            (cpu.cpus, cpu.mems) = (cpus.to_owned(), mems.to_owned());
            assert_eq!(placed(&set), None, "not placer's");
            assert_eq!(read(&asked(set.clone(), &[])), Ok(None));
            set.env = vec!["PLACER_NODESX=1".to_owned(), "PLACER_NODES=1-2".to_owned()];
            let nodes = "1-2".parse().expect("nodes");
            let cpus = cpus.parse().expect("CPUs");
            assert_eq!(placed(&set), Some(Placed { cpus, nodes, bound: !mems.is_empty() }));
        }
        for (value, known) in [("all", true), ("1-", false), ("", false), ("-1", false)] {
            let mut one = limited();
            one.env.push(format!("PLACER_NODES={value}"));
            assert_eq!(placed(&one).is_some(), known, "{value:?}");
        }
    }

    proptest! {
        /// A runtime passes on what strangers call their containers.
        #[test]
        fn damaged_messages_are_read_or_refused(
            at in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = asked(container(1024, 100_000, 1 << 30, 950), &[(REQUEST, "2:4G")]);
            let mut bytes = whole.encode_to_vec();
            for (at, byte) in at {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
                let Ok(asked) = ContainerRequest::decode(bytes) else { continue };
                let _ = (wanted(&asked, TOTAL, &Advise::default()), strict(&asked));
                let _ = asked.container.as_ref().map(placed);
            }
        }
    }

    #[test]
    fn strict_is_true_or_false() {
        let of = |value| strict(&asked(Container::default(), &[(STRICT, value)]));
        assert_eq!((of("true"), of("false")), (Ok(true), Ok(false)));
        let why = "annotation org.placer.strict: expected true or false, found \"yes\"";
        assert_eq!(of("yes"), Err(why.to_owned()));
        assert_eq!(strict(&ContainerRequest::default()), Ok(false));
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let before = container(512, 50_000, 1 << 30, 0);
        let memory = Some(Memory { limit: Some(Signed { value: 2 << 30 }) });
        let change = Resources { memory, ..Resources::default() };
        let after = changed(resources(&before), &change);
        let wanted = wanted_with(&asked(before, &[]), Some(&after), TOTAL, &Advise::default());
        assert_eq!(sizes(wanted), Ok(Some((50, 2048, true))));
    }
}
