//! Runs a template. Every operation that takes time or memory is deducted from a budget before it is done.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::method_names::has_method;
use super::ops::{Args, Budget, Ops};
use super::parser::{Arg, Expr, Filter, Macro, Node, Stmt, Target};
use super::text::{Builder, Text};
use super::value::{Callable, Loop, Value};
use super::{Fault, filters, methods};

/// Maximum nesting of expressions, blocks and macros at run time, which bounds the stack.
const MAX_DEPTH: usize = 500;

type Scope = HashMap<String, Value>;

pub(super) struct Vm {
    scopes: Vec<Scope>,
    ops: Ops,
    depth: usize,
    out: Builder,
}

/// How a body ended.
enum Flow {
    On,
    Break,
    Continue,
}

/// Number of scopes that macros see: the variables, and that of the template.
const SHARED: usize = 2;

const FUNCTIONS: [&str; 5] = ["raise_exception", "strftime_now", "namespace", "range", "dict"];

impl Vm {
    pub(super) fn new(variables: Vec<(String, Value)>, budget: &Budget, now: i64) -> Self {
        let mut globals: Scope = FUNCTIONS.iter().map(|name| ((*name).to_owned(), Value::Function(name))).collect();
        globals.extend(variables);
        Self { scopes: vec![globals, Scope::new()], ops: Ops::new(budget, now), depth: 0, out: Builder::default() }
    }

    /// The rendered text, and its untrusted ranges.
    pub(super) fn run(mut self, nodes: &[Node]) -> Result<(String, Vec<(usize, usize)>), Fault> {
        self.body(nodes)?;
        Ok(self.out.into_parts())
    }

    fn nested<T>(&mut self, inside: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self
                .ops
                .fault(format!("more than {MAX_DEPTH} expressions, blocks and macros inside each other")));
        }
        let result = inside(self);
        self.depth -= 1;
        result
    }

    fn body(&mut self, nodes: &[Node]) -> Result<Flow, Fault> {
        self.nested(|vm| {
            for node in nodes {
                vm.ops.line.set(node.line);
                vm.ops.pay(1)?;
                match vm.statement(&node.stmt)? {
                    Flow::On => {}
                    other => return Ok(other),
                }
            }
            Ok(Flow::On)
        })
    }

    fn statement(&mut self, stmt: &Stmt) -> Result<Flow, Fault> {
        match stmt {
            Stmt::Text(text) => {
                self.ops.pay_bytes(text.len())?;
                self.out.push_str(text);
            }
            Stmt::Print(value) => {
                let value = self.eval(value)?;
                let text = self.ops.text(&value)?;
                self.ops.pay_bytes(text.len())?;
                self.out.push(&text);
            }
            Stmt::If { branches, otherwise } => {
                for (condition, body) in branches {
                    if self.eval(condition)?.is_true() {
                        return self.body(body);
                    }
                }
                return self.body(otherwise);
            }
            Stmt::For { target, items, condition, body, otherwise } => {
                return self.repeat(target, items, condition.as_ref(), body, otherwise);
            }
            Stmt::Set(target, value) => {
                let value = self.eval(value)?;
                self.assign(target, value)?;
            }
            Stmt::SetBlock { target, filters, body } => {
                let text = self.captured(body)?;
                let value = self.filtered(text, filters)?;
                self.assign(target, value)?;
            }
            Stmt::Macro(definition) => {
                let value = self.define(definition)?;
                self.declare(&definition.name, value);
            }
            Stmt::Call { caller, call } => self.call_block(caller, call)?,
            Stmt::Filter { filters, body } => {
                let text = self.captured(body)?;
                let value = self.filtered(text, filters)?;
                let text = self.ops.text(&value)?;
                self.ops.pay_bytes(text.len())?;
                self.out.push(&text);
            }
            Stmt::With { values, body } => {
                self.scopes.push(Scope::new());
                for (target, value) in values {
                    let value = self.eval(value)?;
                    self.assign(target, value)?;
                }
                let flow = self.body(body)?;
                self.scopes.pop();
                return Ok(flow);
            }
            Stmt::Body(body) => return self.body(body),
            Stmt::Break => return Ok(Flow::Break),
            Stmt::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn declare(&mut self, name: &str, value: Value) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.to_owned(), value);
        }
    }

    fn assign(&mut self, target: &Target, value: Value) -> Result<(), Fault> {
        match target {
            Target::Name(name) => self.declare(name, value),
            Target::Attribute(name, attribute) => {
                let Value::Namespace(values) = self.lookup(name) else {
                    return Err(self.ops.fault("only attributes of a namespace can be set"));
                };
                if value.holds_namespace() {
                    return Err(self.ops.fault("a namespace cannot hold a namespace"));
                }
                set_attribute(&mut values.borrow_mut(), attribute, value);
            }
            Target::Many(targets) => {
                let items = self.ops.items(&value)?;
                if items.items.len() != targets.len() {
                    let (found, wanted) = (items.items.len(), targets.len());
                    return Err(self.ops.fault(format!("{found} values for {wanted} names")));
                }
                for (target, item) in targets.iter().zip(&items.items) {
                    self.assign(target, item.clone())?;
                }
            }
        }
        Ok(())
    }

    fn repeat(
        &mut self,
        target: &Target,
        items: &Expr,
        condition: Option<&Expr>,
        body: &[Node],
        otherwise: &[Node],
    ) -> Result<Flow, Fault> {
        let value = self.eval(items)?;
        let mut items = self.ops.items(&value)?;
        if let Some(condition) = condition {
            let mut kept = Vec::new();
            for item in &items.items {
                self.scopes.push(Scope::new());
                self.assign(target, item.clone())?;
                if self.eval(condition)?.is_true() {
                    kept.push(item.clone());
                }
                self.scopes.pop();
            }
            let kept = self.ops.list(kept)?;
            items = self.ops.items(&kept)?;
        }
        if items.items.is_empty() {
            return self.body(otherwise);
        }
        let state = Rc::new(RefCell::new(Loop { items: items.clone(), index: 0, last_changed: None }));
        for (index, item) in items.items.iter().enumerate() {
            state.borrow_mut().index = index;
            self.scopes.push(Scope::from([("loop".to_owned(), Value::Loop(state.clone()))]));
            self.assign(target, item.clone())?;
            let flow = self.body(body)?;
            self.scopes.pop();
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(Flow::On)
    }

    /// The output of a body.
    fn captured(&mut self, body: &[Node]) -> Result<Value, Fault> {
        let out = std::mem::take(&mut self.out);
        self.scopes.push(Scope::new());
        let result = self.body(body);
        self.scopes.pop();
        let text = std::mem::replace(&mut self.out, out);
        result?;
        Ok(Value::Str(text.finish()))
    }

    fn filtered(&mut self, value: Value, filters: &[Filter]) -> Result<Value, Fault> {
        filters.iter().try_fold(value, |value, filter| {
            let args = self.args(&filter.args)?;
            filters::apply(&self.ops, &filter.name, &value, args)
        })
    }

    fn define(&mut self, definition: &Macro) -> Result<Value, Fault> {
        let mut params = Vec::new();
        for (name, default) in &definition.params {
            let default = default.as_ref().map(|default| self.eval(default)).transpose()?;
            params.push((name.clone(), default));
        }
        let (name, body) = (definition.name.clone(), definition.body.clone());
        Ok(Value::Macro(Rc::new(Callable { name, params, body, caller: None })))
    }

    fn call_block(&mut self, caller: &Macro, call: &Expr) -> Result<(), Fault> {
        let Expr::Call(function, args) = call else {
            return Err(self.ops.fault("a call block needs a call"));
        };
        let (Value::Macro(function), args) = (self.eval(function)?, self.args(args)?) else {
            return Err(self.ops.fault("a call block needs a macro"));
        };
        let caller = Some(self.define(caller)?);
        let (name, params, body) = (function.name.clone(), function.params.clone(), function.body.clone());
        let value = self.call_macro(&Callable { name, params, body, caller }, args)?;
        let text = self.ops.text(&value)?;
        self.out.push(&text);
        Ok(())
    }

    fn call_macro(&mut self, function: &Callable, args: Args) -> Result<Value, Fault> {
        let mut scope = Scope::new();
        let mut plain = args.plain.into_iter();
        let mut named = args.named;
        for (name, default) in &function.params {
            let given = plain.next().or_else(|| {
                let at = named.iter().position(|(given, _)| given == name)?;
                Some(named.swap_remove(at).1)
            });
            let value = given.or_else(|| default.clone()).unwrap_or_else(|| Value::undefined(name));
            scope.insert(name.clone(), value);
        }
        if plain.next().is_some() || !named.is_empty() {
            return Err(self.ops.fault(format!("too many arguments for {}", function.name)));
        }
        if let Some(caller) = &function.caller {
            scope.insert("caller".to_owned(), caller.clone());
        }
        let line = self.ops.line.get();
        let outer = self.scopes.split_off(SHARED);
        self.scopes.push(scope);
        let body = function.body.clone();
        let result = self.captured(&body);
        self.scopes.truncate(SHARED);
        self.scopes.extend(outer);
        self.ops.line.set(line);
        result
    }

    fn lookup(&self, name: &str) -> Value {
        let found = self.scopes.iter().rev().find_map(|scope| scope.get(name));
        found.cloned().unwrap_or_else(|| Value::undefined(name))
    }

    pub(super) fn eval(&mut self, expr: &Expr) -> Result<Value, Fault> {
        self.ops.pay(1)?;
        self.nested(|vm| match expr {
            Expr::None => Ok(Value::None),
            Expr::Bool(b) => Ok(Value::Bool(*b)),
            Expr::Int(n) => Ok(Value::Int(*n)),
            Expr::Float(x) => Ok(Value::Float(*x)),
            Expr::Str(text) => vm.ops.made(Text::new(text.as_str())),
            Expr::Name(name) => Ok(vm.lookup(name)),
            Expr::List(items) => {
                let items = vm.eval_all(items)?;
                vm.ops.list(items)
            }
            Expr::Tuple(items) => {
                let items = vm.eval_all(items)?;
                vm.ops.tuple(items)
            }
            Expr::Dict(entries) => {
                let entries = entries.iter().map(|(key, value)| Ok((vm.eval(key)?, vm.eval(value)?)));
                let entries = entries.collect::<Result<_, _>>()?;
                vm.ops.dict(entries)
            }
            Expr::And(a, b) => {
                let a = vm.eval(a)?;
                if a.is_true() { vm.eval(b) } else { Ok(a) }
            }
            Expr::Or(a, b) => {
                let a = vm.eval(a)?;
                if a.is_true() { Ok(a) } else { vm.eval(b) }
            }
            Expr::Not(value) => Ok(Value::Bool(!vm.eval(value)?.is_true())),
            Expr::If { condition, then, otherwise } => {
                if vm.eval(condition)?.is_true() {
                    vm.eval(then)
                } else {
                    otherwise.as_ref().map_or_else(|| Ok(Value::undefined("")), |otherwise| vm.eval(otherwise))
                }
            }
            other => vm.operation(other),
        })
    }

    fn eval_all(&mut self, items: &[Expr]) -> Result<Vec<Value>, Fault> {
        items.iter().map(|item| self.eval(item)).collect()
    }

    fn operation(&mut self, expr: &Expr) -> Result<Value, Fault> {
        match expr {
            Expr::Attribute(value, name) => {
                let value = self.eval(value)?;
                self.ops.attribute(&value, name)
            }
            Expr::Item(value, key) => {
                let (value, key) = (self.eval(value)?, self.eval(key)?);
                self.ops.item(&value, &key)
            }
            Expr::Slice(value, parts) => {
                let value = self.eval(value)?;
                let mut ends = [None; 3];
                for (end, part) in ends.iter_mut().zip(parts) {
                    if let Some(part) = part {
                        *end = self.eval(part)?.as_int();
                    }
                }
                self.ops.slice(&value, ends)
            }
            Expr::Call(function, args) => self.call(function, args),
            Expr::Filter(value, filter) => {
                let value = self.eval(value)?;
                let args = self.args(&filter.args)?;
                filters::apply(&self.ops, &filter.name, &value, args)
            }
            Expr::Test { value, name, args, negated } => {
                let (value, args) = (self.eval(value)?, self.args(args)?);
                Ok(Value::Bool(filters::test(&self.ops, name, &value, &args.plain)? != *negated))
            }
            Expr::Unary(sign, value) => {
                let value = self.eval(value)?;
                match (&value, value.as_int()) {
                    (_, Some(n)) => Ok(Value::Int(if *sign == '-' { n.wrapping_neg() } else { n })),
                    (Value::Float(x), _) => Ok(Value::Float(if *sign == '-' { -x } else { *x })),
                    _ => Err(self.ops.fault(format!("no sign for {}", value.type_name()))),
                }
            }
            Expr::Binary(a, op, b) => {
                let (a, b) = (self.eval(a)?, self.eval(b)?);
                self.binary(&a, op, &b)
            }
            Expr::Compare(first, rest) => {
                let mut left = self.eval(first)?;
                for (op, right) in rest {
                    let right = self.eval(right)?;
                    if !self.ops.holds(&left, op, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            _ => Err(self.ops.fault("not an expression")),
        }
    }

    fn args(&mut self, args: &[Arg]) -> Result<Args, Fault> {
        let mut out = Args::default();
        for arg in args {
            match arg {
                Arg::Plain(value) => out.plain.push(self.eval(value)?),
                Arg::Named(name, value) => out.named.push((name.clone(), self.eval(value)?)),
                Arg::Spread(value) => {
                    let value = self.eval(value)?;
                    out.plain.extend(self.ops.items(&value)?.items.iter().cloned());
                }
                Arg::SpreadNamed(value) => {
                    let Value::Dict(dict) = self.eval(value)? else {
                        return Err(self.ops.fault("** needs a dictionary"));
                    };
                    for (key, value) in &dict.entries {
                        out.named.push((key.to_text().as_str().to_owned(), value.clone()));
                    }
                }
            }
        }
        Ok(out)
    }

    fn call(&mut self, function: &Expr, args: &[Arg]) -> Result<Value, Fault> {
        if let Expr::Attribute(value, method) = function {
            let value = self.eval(value)?;
            let args = self.args(args)?;
            if has_method(&value, method) {
                return methods::call(&self.ops, &value, method, &args);
            }
            let function = self.ops.attribute(&value, method)?;
            if let Value::Undefined(_) = function {
                return Err(self.ops.fault(format!("{} has no method {method}", value.type_name())));
            }
            return self.call_value(&function, args);
        }
        let name = if let Expr::Name(name) = function { name } else { "" };
        let function = self.eval(function)?;
        let args = self.args(args)?;
        if let Value::Undefined(_) = function {
            return Err(self.ops.fault(format!("{name} is undefined")));
        }
        self.call_value(&function, args)
    }

    fn call_value(&mut self, function: &Value, args: Args) -> Result<Value, Fault> {
        match function {
            Value::Macro(function) => self.nested(|vm| vm.call_macro(function, args)),
            Value::Method(method) => methods::call(&self.ops, &method.0, &method.1, &args),
            Value::Function(name) => self.builtin(name, args),
            other => Err(self.ops.fault(format!("{} cannot be called", other.type_name()))),
        }
    }

    fn builtin(&mut self, name: &str, args: Args) -> Result<Value, Fault> {
        let first = args.plain.first();
        match name {
            "raise_exception" => {
                let message = first.map(|value| self.ops.text(value)).transpose()?.unwrap_or_default();
                Err(self.ops.fault(message.as_str()))
            }
            "strftime_now" => {
                let format =
                    first.and_then(Value::as_str).ok_or_else(|| self.ops.fault("strftime_now needs a format"))?;
                self.ops.made(Text::new(super::dates::strftime(format, self.ops.now)))
            }
            "range" => {
                let number = |i: usize| args.plain.get(i).and_then(Value::as_int);
                let (start, end) = match (number(0), number(1)) {
                    (Some(end), None) => (0, end),
                    (Some(start), Some(end)) => (start, end),
                    _ => return Err(self.ops.fault("range needs whole numbers")),
                };
                let step = number(2).unwrap_or(1);
                if step == 0 {
                    return Err(self.ops.fault("a range cannot have steps of 0"));
                }
                let count = (i128::from(end) - i128::from(start) + i128::from(step) - i128::from(step.signum()))
                    / i128::from(step);
                let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
                if count > 100_000 {
                    return Err(self.ops.fault("a range of more than 100000 numbers"));
                }
                let numbers = (0..count as i64).map(|i| Value::Int(start + i * step));
                self.ops.list(numbers.collect())
            }
            "namespace" | "dict" => {
                let mut entries: Vec<(Value, Value)> = Vec::new();
                match first {
                    Some(Value::Dict(dict)) => entries.extend(dict.entries.iter().cloned()),
                    Some(Value::List(list)) => {
                        for pair in &list.items {
                            match self.ops.items(pair)?.items.as_slice() {
                                [key, value] => entries.push((key.clone(), value.clone())),
                                _ => return Err(self.ops.fault("dict needs pairs")),
                            }
                        }
                    }
                    _ => {}
                }
                entries.extend(args.named.into_iter().map(|(name, value)| (Value::str(name), value)));
                if name == "dict" {
                    return self.ops.dict(entries);
                }
                if entries.iter().any(|(_, value)| value.holds_namespace()) {
                    return Err(self.ops.fault("a namespace cannot hold a namespace"));
                }
                let values = entries.into_iter().map(|(key, value)| (key.to_text().as_str().to_owned(), value));
                Ok(Value::Namespace(Rc::new(RefCell::new(values.collect()))))
            }
            _ => Err(self.ops.fault(format!("{name} is undefined"))),
        }
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "as Python does")]
    fn binary(&self, a: &Value, op: &str, b: &Value) -> Result<Value, Fault> {
        if op == "~" {
            let parts = [self.ops.text(a)?, self.ops.text(b)?];
            return Ok(Value::Str(self.ops.concat(&parts)?));
        }
        if let (Value::Str(text), "%") = (a, op) {
            let args = if let Value::List(list) = b { list.items.clone() } else { vec![b.clone()] };
            return methods::percent(&self.ops, text, &args);
        }
        match (a, op, b) {
            (Value::Str(a), "+", Value::Str(b)) => {
                let markup = a.markup || b.markup;
                let parts = if markup { [a.escaped(), b.escaped()] } else { [a.clone(), b.clone()] };
                return Ok(Value::Str(self.ops.concat(&parts)?.with_markup(markup)));
            }
            (Value::List(a), "+", Value::List(b)) if a.is_tuple == b.is_tuple => {
                self.ops.pay_bytes((a.items.len() + b.items.len()) * size_of::<Value>())?;
                let items = a.items.iter().chain(&b.items).cloned().collect();
                return if a.is_tuple { self.ops.tuple(items) } else { self.ops.list(items) };
            }
            (Value::Str(text), "*", n) | (n, "*", Value::Str(text)) if n.as_int().is_some() => {
                let n = usize::try_from(n.as_int().unwrap_or(0)).unwrap_or(0);
                self.ops.pay_bytes(text.len().saturating_mul(n))?;
                return Ok(Value::Str(text.made(text.as_str().repeat(n))));
            }
            (Value::List(list), "*", n) if n.as_int().is_some() => {
                let n = usize::try_from(n.as_int().unwrap_or(0)).unwrap_or(0);
                self.ops.pay_bytes(list.items.len().saturating_mul(n).saturating_mul(size_of::<Value>()))?;
                let items = list.items.iter().cycle().take(list.items.len() * n).cloned().collect();
                return if list.is_tuple { self.ops.tuple(items) } else { self.ops.list(items) };
            }
            _ => {}
        }
        let failed = || {
            let (a, b) = (a.type_name(), b.type_name());
            self.ops.fault(format!("tried to use {op} operator on unsupported types {a} and {b}"))
        };
        let by_zero = || self.ops.fault("division by zero");
        if let (Some(a), Some(b)) = (a.as_int(), b.as_int()) {
            let whole = |n: Option<i64>| n.map(Value::Int).ok_or_else(|| self.ops.fault("a number that is too large"));
            return match op {
                "+" => whole(a.checked_add(b)),
                "-" => whole(a.checked_sub(b)),
                "*" => whole(a.checked_mul(b)),
                "/" if b != 0 => Ok(Value::Float(a as f64 / b as f64)),
                "//" if b != 0 => {
                    whole(a.checked_div_euclid(b).map(|n| if b < 0 && a.rem_euclid(b) != 0 { n - 1 } else { n }))
                }
                "%" if b != 0 => whole(a.checked_rem(b).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r })),
                "**" if b >= 0 => whole(u32::try_from(b).ok().and_then(|b| a.checked_pow(b))),
                "**" => Ok(Value::Float((a as f64).powf(b as f64))),
                _ => Err(by_zero()),
            };
        }
        let (Some(x), Some(y)) = (a.as_number(), b.as_number()) else { return Err(failed()) };
        Ok(Value::Float(match op {
            "+" => x + y,
            "-" => x - y,
            "*" => x * y,
            "**" => x.powf(y),
            _ if y == 0.0 => return Err(by_zero()),
            "/" => x / y,
            "//" => (x / y).floor(),
            _ => x - (x / y).floor() * y,
        }))
    }
}

fn set_attribute(values: &mut Vec<(String, Value)>, name: &str, value: Value) {
    match values.iter_mut().find(|(other, _)| other == name) {
        Some(entry) => entry.1 = value,
        None => values.push((name.to_owned(), value)),
    }
}
