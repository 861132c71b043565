//! What belongs together: two slots, targets or portals are in one group if a
//! path of shared volumes, targets and portals leads from one to the other.

use super::{Site, SlotId};
use std::collections::BTreeMap;

/// A thing that connects, or is connected. The order is that in which a group
/// gets its name from its members.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Volume(String),
    Portal(String),
    Target(String),
    Slot(SlotId),
}

/// The groups of a site.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// Each one's group: its first member.
    first: BTreeMap<Node, Node>,
    names: BTreeMap<Node, String>,
}

impl Groups {
    fn of(&self, node: &Node) -> Option<&str> {
        self.names.get(self.first.get(node)?).map(String::as_str)
    }

    /// Only SCSI controllers have a group.
    pub(crate) fn of_slot(&self, id: &SlotId) -> Option<&str> {
        self.of(&Node::Slot(id.clone()))
    }

    pub(crate) fn of_portal(&self, name: &str) -> Option<&str> {
        self.of(&Node::Portal(name.to_owned()))
    }

    pub(crate) fn of_target(&self, name: &str) -> Option<&str> {
        self.of(&Node::Target(name.to_owned()))
    }
}

/// Union-find; the root of a set is its least member, so that the outcome does
/// not depend on the order of the unions.
#[derive(Default)]
struct Sets(BTreeMap<Node, Node>);

impl Sets {
    fn root(&mut self, node: &Node) -> Node {
        let mut root = node;
        while let Some(next) = self.0.get(root)
            && next != root
        {
            root = next;
        }
        let root = root.clone();
        // The next look is a short one.
        self.0.insert(node.clone(), root.clone());
        root
    }

    fn unite(&mut self, a: &Node, b: &Node) {
        let (a, b) = (self.root(a), self.root(b));
        let (least, other) = if a < b { (a, b) } else { (b, a) };
        self.0.insert(other, least);
    }
}

impl Site {
    pub(crate) fn groups(&self) -> Groups {
        let mut sets = Sets::default();
        let is_shared = |volume: &str| self.disk.get(volume).is_some_and(|volume| volume.shared);
        for name in self.portal.keys() {
            sets.root(&Node::Portal(name.clone()));
        }
        for (name, target) in &self.target {
            let node = Node::Target(name.clone());
            sets.root(&node);
            for portal in target.portals.0.keys() {
                sets.unite(&node, &Node::Portal(portal.clone()));
            }
            for volume in target.luns.0.values().filter(|volume| is_shared(volume)) {
                sets.unite(&node, &Node::Volume(volume.clone()));
            }
        }
        for (id, slot) in self.slots().filter(|(_, slot)| slot.model.is_scsi()) {
            let node = Node::Slot(id);
            sets.root(&node);
            for (_, volume) in slot.luns().filter(|(_, volume)| is_shared(volume)) {
                sets.unite(&node, &Node::Volume(volume.to_owned()));
            }
        }
        let nodes: Vec<Node> = sets.0.keys().cloned().collect();
        let first: BTreeMap<Node, Node> =
            nodes.into_iter().map(|node| (node.clone(), sets.root(&node))).collect();
        let names = first.values().map(|node| {
            let name = match node {
                Node::Volume(name) => format!("disk.{name}"),
                Node::Portal(name) => format!("portal.{name}"),
                Node::Target(name) => format!("target.{name}"),
                Node::Slot(id) => format!("vm.{id}"),
            };
            (node.clone(), name)
        });
        Groups { names: names.collect(), first }
    }
}
