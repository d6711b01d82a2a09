// The messages of a pane: a tree, because a message may have several versions, each with what followed it.
//
// pane: { id, settings, nodes: { id: node }, children: [ids], chosen }
// node: { id, parent, children: [ids], chosen, role, content, ... }; of the versions of a message, its parent has chosen one.

import { newId } from './dom.js';

export function newPane(settings) {
  return { id: newId(), settings: structuredClone(settings), nodes: {}, children: [], chosen: 0 };
}

/// The node above, or the pane itself.
function above(pane, node) {
  return node.parent ? pane.nodes[node.parent] : pane;
}

/// Adds a message below `parent` (null: the beginning), as its chosen version.
export function add(pane, parent, fields) {
  const node = { id: newId(), parent: parent?.id ?? null, children: [], chosen: 0, created: Date.now(), ...fields };
  pane.nodes[node.id] = node;
  const siblings = above(pane, node).children;
  siblings.push(node.id);
  above(pane, node).chosen = siblings.length - 1;
  return node;
}

/// A further version of a message, of the same parent.
export function addVersion(pane, node, fields) {
  return add(pane, node.parent ? pane.nodes[node.parent] : null, { role: node.role, ...fields });
}

/// The messages that are shown, from the first on.
export function path(pane) {
  const nodes = [];
  let at = pane;
  while (at.children.length) {
    at = pane.nodes[at.children[at.chosen]];
    nodes.push(at);
  }
  return nodes;
}

/// The messages before one.
export function before(pane, node) {
  const nodes = [];
  for (let at = node.parent; at; at = pane.nodes[at].parent) nodes.unshift(pane.nodes[at]);
  return nodes;
}

/// Which version a message is, and of how many.
export function version(pane, node) {
  const siblings = above(pane, node).children;
  return { index: siblings.indexOf(node.id), total: siblings.length };
}

/// Shows the version before (-1) or after (1).
export function turn(pane, node, step) {
  const { index, total } = version(pane, node);
  above(pane, node).chosen = Math.min(Math.max(index + step, 0), total - 1);
}

/// Takes a message away, with all that followed it.
export function remove(pane, node) {
  const parent = above(pane, node);
  parent.children = parent.children.filter((id) => id !== node.id);
  parent.chosen = Math.max(0, Math.min(parent.chosen, parent.children.length - 1));
  const doomed = [node.id];
  while (doomed.length) {
    const id = doomed.pop();
    doomed.push(...pane.nodes[id].children);
    delete pane.nodes[id];
  }
}
