"""Autoscaling: keeps as many batch jobs of workers as the due calls need."""
