//! Alternative layouts of tensors, in files of other programs and older versions. A family's table has one layout; files may
//! have another with the same numbers. The table is rewritten to the layout of the file; the network supports both.

use crate::arch::{Hparams, TensorRule};

/// Rewrites `rules` to the layouts of the file; `has` says which tensors it has.
pub(super) fn adapt(rules: &mut Vec<TensorRule>, h: &Hparams, has: &dyn Fn(&str) -> bool) {
    for (block, like) in h.all_blocks() {
        let prefix = format!("blk.{block}.");
        fuse_attention(rules, &prefix, has);
        split_attention(rules, &prefix, h, like, has);
        fuse_experts(rules, &prefix, has);
        split_experts(rules, &prefix, has);
        single_experts(rules, &prefix, has);
    }
}

/// Queries, keys and values in one tensor instead of three.
fn fuse_attention(rules: &mut Vec<TensorRule>, prefix: &str, has: &dyn Fn(&str) -> bool) {
    for part in ["weight", "bias"] {
        let fused = format!("{prefix}attn_qkv.{part}");
        let parts = ["attn_q", "attn_k", "attn_v"].map(|name| format!("{prefix}{name}.{part}"));
        let found = parts.each_ref().map(|name| position(rules, name));
        let [Some(query), Some(key), Some(value)] = found else { continue };
        if !has(&fused) || position(rules, &fused).is_some() {
            continue;
        }
        let rows = [query, key, value].iter().filter_map(|&i| rules[i].shape.last()).sum();
        let mut rule = rules[query].clone();
        rule.name = fused;
        if let Some(last) = rule.shape.last_mut() {
            *last = rows;
        }
        rules.retain(|rule| !parts.contains(&rule.name));
        rules.push(rule);
    }
}

/// Queries, keys and values in three tensors instead of one.
fn split_attention(rules: &mut Vec<TensorRule>, prefix: &str, h: &Hparams, block: usize, has: &dyn Fn(&str) -> bool) {
    let (heads, kv_heads) = (h.head_count[block], h.head_count_kv[block]);
    let parts =
        [("attn_q", heads * h.key_length), ("attn_k", kv_heads * h.key_length), ("attn_v", kv_heads * h.value_length)];
    for ending in ["weight", "bias"] {
        let fused = format!("{prefix}attn_qkv.{ending}");
        let names = parts.map(|(name, rows)| (format!("{prefix}{name}.{ending}"), rows));
        let Some(at) = position(rules, &fused) else { continue };
        let sum: usize = parts.iter().map(|(_, rows)| rows).sum();
        if has(&fused) || !names.iter().all(|(name, _)| has(name)) || rules[at].shape.last() != Some(&sum) {
            continue;
        }
        let rule = rules.remove(at);
        rules.extend(names.map(|(name, rows)| {
            let mut rule = TensorRule { name, ..rule.clone() };
            rule.shape.pop();
            rule.shape.push(rows);
            rule
        }));
    }
}

/// Gate and up of all experts in one tensor instead of two.
fn fuse_experts(rules: &mut Vec<TensorRule>, prefix: &str, has: &dyn Fn(&str) -> bool) {
    let fused = format!("{prefix}ffn_gate_up_exps.weight");
    let parts = ["ffn_gate_exps", "ffn_up_exps"].map(|name| format!("{prefix}{name}.weight"));
    let Some(gate) = position(rules, &parts[0]) else { return };
    if !has(&fused) || position(rules, &fused).is_some() {
        return;
    }
    let mut rule = rules[gate].clone();
    rule.name = fused;
    rule.shape[1] *= 2;
    rules.retain(|rule| !parts.contains(&rule.name));
    rules.push(rule);
}

/// Gate and up of all experts in two tensors instead of one.
fn split_experts(rules: &mut Vec<TensorRule>, prefix: &str, has: &dyn Fn(&str) -> bool) {
    let fused = format!("{prefix}ffn_gate_up_exps.weight");
    let parts = ["ffn_gate_exps", "ffn_up_exps"].map(|name| format!("{prefix}{name}.weight"));
    let Some(at) = position(rules, &fused) else { return };
    if has(&fused) || !parts.iter().all(|name| has(name)) {
        return;
    }
    let mut rule = rules.remove(at);
    rule.shape[1] /= 2;
    rules.extend(parts.map(|name| TensorRule { name, ..rule.clone() }));
}

/// A tensor for each expert, as in files of early 2024.
fn single_experts(rules: &mut Vec<TensorRule>, prefix: &str, has: &dyn Fn(&str) -> bool) {
    for part in ["ffn_gate", "ffn_up", "ffn_down"] {
        let stacked = format!("{prefix}{part}_exps.weight");
        let Some(at) = position(rules, &stacked) else { continue };
        if has(&stacked) || !has(&format!("{prefix}{part}.0.weight")) {
            continue;
        }
        let mut rule = rules.remove(at);
        let experts = rule.shape.pop().unwrap_or(0);
        rules.extend((0..experts).map(|expert| {
            let name = format!("{prefix}{part}.{expert}.weight");
            TensorRule { name, ..rule.clone() }
        }));
    }
}

fn position(rules: &[TensorRule], name: &str) -> Option<usize> {
    rules.iter().position(|rule| rule.name == name)
}
