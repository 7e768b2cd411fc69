"""From the result files of a study to answers: tables, statistics, figures and a page. Needs neither torch nor Ray."""
