// What kz uses of re2js, for the compiler where that could not be installed.

export class RE2JS {
  private constructor();
  static compile(pattern: string): RE2JS;
  programSize(): number;
  test(text: string): boolean;
}
