;; Answers what is none of the decision's cases.
;; hooks: request
(func $on-request (param $args i32) (result i32)
  (if (call $is-smoke (local.get $args)) (then (return (i32.const 512))))
  (i32.store8 (i32.const 640) (i32.const 9))
  (i32.const 640))
