;; Says that it only observes, and refuses whatever it is asked.
;; hooks: response
(func $on-request (param $args i32) (result i32)
  (i32.store8 (i32.const 640) (i32.const 2))
  (i32.const 640))
