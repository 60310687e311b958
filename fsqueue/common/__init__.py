"""Small modules that all packages use: logs, traces, safe printing, values of options."""
