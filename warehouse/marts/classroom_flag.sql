-- Student, classroom or system, in words, with the numbers.
with worded as (
    select
        *,
        format('{:g} %', round(100 * tau, 6)) as threshold,
        format('{:.3f}', least(floor(1000 * p_above) / 1000, 0.999)) as p_class,
        format('{:.3f}', least(floor(1000 * p_grade_above) / 1000, 0.999)) as p_grade,
        format('{:.3f}', least(floor(1000 * p_above_peers) / 1000, 0.999)) as p_peers,
        if(in_need = 1, 'is', 'are') as verb,
        case
            when regexp_full_match(need_cut, 'PR<[0-9]+') then
                'below the ' || need_cut[4:]
                || case
                    when regexp_matches(need_cut, '1[0-9]$') then 'th'
                    when need_cut like '%1' then 'st'
                    when need_cut like '%2' then 'nd'
                    when need_cut like '%3' then 'rd'
                    else 'th'
                end
                || ' percentile'
            when need_cut like 'PR<%' then 'below percentile ' || need_cut[4:]
            when need_cut like 'score<%' then 'below a score of ' || need_cut[7:]
            when need_cut is null then 'in need by the cut rule'
            else 'in need by the vendor''s own label'
        end as below
    from projections.class_decision
)

select
    district_id,
    school_year,
    benchmark_window,
    measure,
    school_id,
    class_id,
    class_label,
    grade,
    section_type,
    level,
    case
        when enrolled = 0 then 'No member of this class counts on the reference date.'
        when tested = 0 then format('None of {} enrolled students has a result.', enrolled)
        else
            format(
                '{} of {} tested students ({:.1f} %, interval {:.1f}-{:.1f} %) {} {}; {} of {} enrolled were tested ({:.1f} %).',
                in_need, tested, 100 * need_share, 100 * interval_low, 100 * interval_high, verb, below,
                tested, enrolled, 100 * coverage
            )
    end
    || ' '
    || case reason
        when 'blocking_check_failed' then
            'A quality check of the school''s data failed: mend the data first.'
        when 'grade_coverage_low' then
            format('In the whole grade {:.1f} % were tested, too few to say: test the others first.', 100 * grade_coverage)
        when 'many_classes_coverage_low' then
            'Too many classes of this grade lack results to say: test the others first.'
        when 'nobody_enrolled' then
            'There is nothing to judge.'
        when 'class_coverage_low' then
            format(
                'Too few of the class were tested to say: with the others the share lies between {:.1f} and {:.1f} %.',
                100 * bound_low, 100 * bound_high
            )
        when 'few_tested' then
            'Too few students for a rule about a whole class: look at each student.'
        when 'grade_and_class_above' then
            format(
                'In the whole grade {} of {} are (probability that its rate is above {}: {}), and this class stands above'
                || ' the rest (probability {}): look at whole-class instruction across the grade, and in this class.',
                grade_in_need, grade_tested, threshold, p_grade, p_peers
            )
        when 'grade_above' then
            format(
                'In the whole grade {} of {} are (probability that its rate is above {}: {}):'
                || ' look at whole-class instruction across the grade before any one class.',
                grade_in_need, grade_tested, threshold, p_grade
            )
        when 'only_class_of_grade' then
            format(
                'The probability that the rate is above {} is {}: look at whole-class instruction.'
                || ' This is the only class of its grade, so class, grade and school cannot be told apart.',
                threshold, p_class
            )
        when 'class_above' then
            format(
                'The probability that the rate is above {} is {}; in the whole grade {} of {} are:'
                || ' look at whole-class instruction in this class.',
                threshold, p_class, grade_in_need, grade_tested
            )
        when 'nobody_in_need' then
            'Nobody is in need by this measure.'
        when 'probably_above' then
            format(
                'The probability that the rate is above {} is {}, not enough to say it is the class: look again at the next window.',
                threshold, p_class
            )
        when 'not_above' then
            format('The probability that the rate is above {} is {}: look at each student.', threshold, p_class)
        when 'section_not_regular' then
            format(
                'This is a {} section, judged alone and never against regular classes'
                || ' (probability that the rate is above {}: {}): look at each student.',
                section_type, threshold, p_class
            )
    end
    || if(
        tested > 0,
        format(
            ' In need ({}): {}; recommended Tier 2-3 ({}): {}.',
            coalesce(need_cut, 'cut rule'), in_need, coalesce(recommended_cut, 'cut rule'), recommended
        ),
        ''
    )
    || if(
        tested > 0 and is_norm_adjusted,
        format(' {} is the share of an average class below this cut (norm_adjusted).', threshold),
        ''
    )
    || if(
        tested > 0 and benchmark_window = 'fall',
        ' Fall results describe who arrived, not this year''s instruction.',
        ''
    ) as reason,
    reason as reason_code,
    enrolled,
    tested,
    mobile,
    coverage,
    in_need,
    recommended,
    need_share,
    need_cut,
    recommended_cut,
    guidance_band,
    interval_low,
    interval_high,
    p_above,
    bound_low,
    bound_high,
    bound_verdict,
    tau,
    is_norm_adjusted,
    grade_tested,
    grade_in_need,
    p_grade_above,
    grade_coverage,
    p_above_peers
from worded
order by district_id, school_year, benchmark_window, measure, school_id, grade, class_id
