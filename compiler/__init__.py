"""What everything else is written in: labels, rules, hypergraph, costs, problems and plans."""
