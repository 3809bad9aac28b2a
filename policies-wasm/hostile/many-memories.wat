;; A whole component: a memory in each of forty instances.
(component
  (core module $m (memory (export "m") 1))
  INSTANCES)
