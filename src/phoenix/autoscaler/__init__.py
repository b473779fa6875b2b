"""Phoenix's autoscaler: requests counted by the load balancers in, runs of scale.yml out."""
