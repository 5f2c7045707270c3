"""From `cluster.yaml` to the manifests of a Ray cluster on Kubernetes. Imports neither Ray nor an engine."""
