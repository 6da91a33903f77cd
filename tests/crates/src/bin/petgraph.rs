//! Graphs: searches with closures, shortest paths, components, isomorphism.

use petgraph::algo::{
    astar, bellman_ford, connected_components, dijkstra, is_isomorphic_matching, min_spanning_tree, tarjan_scc,
    toposort,
};
use petgraph::data::FromElements;
use petgraph::dot::Dot;
use petgraph::graph::{DiGraph, NodeIndex, UnGraph};
use petgraph::visit::{Bfs, Control, DfsEvent, EdgeRef, Walker, depth_first_search};

use crates::source::{Source, hash};

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let mut graph = DiGraph::<String, u32>::new();
    let nodes: Vec<NodeIndex> = (0..40).map(|i| graph.add_node(format!("{i}{}", source.words(1)))).collect();
    for _ in 0..110 {
        let (a, b) = (source.pick(&nodes.iter().collect::<Vec<_>>()), source.pick(&nodes.iter().collect::<Vec<_>>()));
        graph.add_edge(*a, *b, source.below(90) as u32 + 1);
    }
    let mut distances: Vec<_> = dijkstra(&graph, nodes[0], None, |edge| *edge.weight()).into_iter().collect();
    distances.sort();
    let path = astar(&graph, nodes[0], |n| n == nodes[7], |e| *e.weight(), |n| u32::from(n != nodes[7]));
    let (mut time, mut back) = (0, Vec::new());
    let stopped = depth_first_search(&graph, nodes.iter().copied(), |event| {
        time += 1;
        match event {
            DfsEvent::BackEdge(a, b) => back.push((a.index(), b.index())),
            DfsEvent::Finish(_, t) if t.0 > 60 => return Control::Break(t.0),
            _ => {}
        }
        Control::Continue
    });
    let components = tarjan_scc(&graph);
    let acyclic = graph.filter_map(
        |_, name| Some(name.len()),
        |i, w| {
            let (a, b) = graph.edge_endpoints(i)?;
            (a < b).then(|| f64::from(*w))
        },
    );
    let order: Vec<_> = toposort(&acyclic, None).unwrap().iter().map(|n| n.index()).collect();
    let paths = bellman_ford(&acyclic, nodes[0]).unwrap().distances;
    let undirected = UnGraph::<usize, u32>::from_elements(min_spanning_tree(&graph.map(|_, n| n.len(), |_, w| *w)));
    let breadth: Vec<_> = Bfs::new(&graph, nodes[3]).iter(&graph).map(|n| n.index()).collect();
    let same = is_isomorphic_matching(&acyclic, &acyclic, |a, b| a == b, |a, b| a == b);
    let sum: u32 = graph.edge_references().filter(|e| e.source() > e.target()).map(|e| *e.weight()).sum();
    let dot = format!("{:?}", Dot::new(&graph));
    format!(
        "{distances:?}\n{path:?}\n{stopped:?} {time} {back:?}\n{components:?}\n{order:?} {paths:?}\n{} {} {breadth:?} {same} {sum} {:x}",
        undirected.edge_count(),
        connected_components(&graph),
        hash(dot.as_bytes())
    )
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
