/**
 * Rules: which events are meant. Patterns of topics, conditions and keys in CEL; pure, so that the configuration can be
 * checked and an event tried without a broker or a database. Start reading at rule.ts.
 */
export { compileExpression, type EventFacts, type Expression, type ExpressionProblem } from "./expression.ts";
export { compileRule, type Keys, type Rule, type RuleProblem, type RuleSettings, type Verdict } from "./rule.ts";
export { problemWithPattern, topicMatches } from "./topic-pattern.ts";
